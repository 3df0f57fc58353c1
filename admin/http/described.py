"""What the API documents of itself: every refusal in the form and under the type that it is answered with."""

from typing import Any, Final

from fastapi import FastAPI

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
OURS: Final = "#/components/schemas/Problem"
OTHERS: Final = ("#/components/schemas/OpenMeterProblem",)
OF_FASTAPI: Final = "#/components/schemas/HTTPValidationError"


def describe_problems(application: FastAPI) -> None:
    """Let the API's description name problems by the type `application/problem+json`, as `answer_refusals` does."""
    describe = application.openapi

    def described() -> dict[str, Any]:
        document = describe()
        for methods in document["paths"].values():
            for operation in methods.values():
                for response in operation["responses"].values():
                    _describe(response)
        return document

    application.openapi = described  # type: ignore[method-assign]


def _describe(response: dict[str, Any]) -> None:
    """Move the problems among a response's forms to their own type; done twice it changes nothing."""
    form = response.get("content", {}).get(JSON)
    if form is None:
        return
    forms = form["schema"].get("anyOf", [form["schema"]])
    problems = [{"$ref": OURS} if one.get("$ref") == OF_FASTAPI else one for one in forms if _is_problem(one)]
    others = [one for one in forms if not _is_problem(one)]
    if problems:
        response["content"] |= {PROBLEM: {"schema": _any_of(problems)}, JSON: {"schema": _any_of(others)}}
    if not others:
        del response["content"][JSON]


def _is_problem(form: dict[str, Any]) -> bool:
    return form.get("$ref") in (OURS, OF_FASTAPI, *OTHERS)


def _any_of(forms: list[dict[str, Any]]) -> dict[str, Any]:
    return forms[0] if len(forms) == 1 else {"anyOf": forms}
