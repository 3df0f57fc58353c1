"""What pricing refuses: each error names the facts a person needs to mend the terms or the usage."""


class PricingError(Exception):
    """Stops the rating of one contract's period until a person has mended the cause; never retried blindly."""


class TermsError(PricingError):
    """Terms that contradict themselves: tiers out of order, a negative price, a boundary off the bucket grid."""


class MissingPriceError(PricingError):
    """Usage was read for a product that has no price at that time; it is never billed at zero."""


class NegativeQuantityError(PricingError):
    """A quantity below zero where the price model cannot mean anything by it."""
