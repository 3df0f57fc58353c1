"""The table of routes: method and path, the SDK's type of the parameters, those that are known here, the function."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from stripe import params

from infra.stripesim import intents, parties, records
from infra.stripesim.call import Call
from infra.stripesim.errors import RefusedError, StripeJson

EXPAND = frozenset({"expand"})


@dataclass(frozen=True, slots=True)
class Route:
    """What one method of one path does."""

    method: str
    path: re.Pattern[str]
    params: type
    known: frozenset[str]
    answer: Callable[[Call], StripeJson]


def _route(line: str, parameters: type, known: frozenset[str], answer: Callable[[Call], StripeJson]) -> Route:
    method, path = line.split(" ")
    return Route(method, re.compile(path.replace("{id}", "([A-Za-z0-9_]+)")), parameters, known, answer)


ROUTES = (
    _route("POST /v1/customers", params.CustomerCreateParams, parties.CUSTOMER_FIELDS, parties.create_customer),
    _route("GET /v1/customers/{id}", params.CustomerRetrieveParams, EXPAND, parties.retrieve_customer),
    _route(
        "POST /v1/customers/{id}", params.CustomerUpdateParams, parties.CUSTOMER_UPDATE_FIELDS, parties.update_customer
    ),
    _route(
        "GET /v1/customers/{id}/payment_methods",
        params.CustomerPaymentMethodListParams,
        parties.METHOD_LIST_FIELDS,
        parties.list_cards_of_customer,
    ),
    _route(
        "GET /v1/payment_methods",
        params.PaymentMethodListParams,
        parties.METHOD_LIST_FIELDS,
        parties.list_payment_methods,
    ),
    _route("GET /v1/payment_methods/{id}", params.PaymentMethodRetrieveParams, EXPAND, parties.retrieve_payment_method),
    _route(
        "POST /v1/payment_methods/{id}/attach",
        params.PaymentMethodAttachParams,
        parties.ATTACH_FIELDS,
        parties.attach_payment_method,
    ),
    _route("POST /v1/payment_intents", params.PaymentIntentCreateParams, intents.CREATE_FIELDS, intents.create),
    _route("GET /v1/payment_intents", params.PaymentIntentListParams, intents.LIST_FIELDS, intents.list_all),
    _route("GET /v1/payment_intents/{id}", params.PaymentIntentRetrieveParams, EXPAND, intents.retrieve),
    _route("POST /v1/payment_intents/{id}", params.PaymentIntentUpdateParams, intents.UPDATE_FIELDS, intents.update),
    _route(
        "POST /v1/payment_intents/{id}/confirm",
        params.PaymentIntentConfirmParams,
        intents.CONFIRM_FIELDS,
        intents.confirm,
    ),
    _route(
        "POST /v1/payment_intents/{id}/cancel", params.PaymentIntentCancelParams, intents.CANCEL_FIELDS, intents.cancel
    ),
    _route("GET /v1/charges/{id}", params.ChargeRetrieveParams, EXPAND, records.retrieve_charge),
    _route("GET /v1/charges", params.ChargeListParams, records.CHARGE_LIST_FIELDS, records.list_charges),
    _route(
        "GET /v1/balance_transactions/{id}",
        params.BalanceTransactionRetrieveParams,
        EXPAND,
        records.retrieve_balance_transaction,
    ),
    _route(
        "GET /v1/balance_transactions",
        params.BalanceTransactionListParams,
        records.BALANCE_LIST_FIELDS,
        records.list_balance_transactions,
    ),
    _route("GET /v1/events/{id}", params.EventRetrieveParams, EXPAND, records.retrieve_event),
    _route("GET /v1/events", params.EventListParams, records.EVENT_LIST_FIELDS, records.list_events),
)


def find_route(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """Return the route of a request and the ids of its path; raise the refusal for an unknown address."""
    for route in ROUTES:
        if route.method == method and (match := route.path.fullmatch(path)):
            return route, match.groups()
    raise RefusedError(404, f"Unrecognized request URL ({method}: {path}).")
