"""When and in which order: contract, invoice, collection, close run.

No I/O and no arithmetic on money. Time is `workflow.now()`. May import `activities` for their signatures,
inside `workflow.unsafe.imports_passed_through()`.
"""
