"""Files: the YAML that people write, read strictly and exactly, every problem told at once with its line.

One way for every kind: text to a plain structure (`document`), its values (`values`) and shapes (`shapes`) checked by
pydantic, the problems in our words (`problems`), then what the facts mean together. The shapes of prices and terms are
those of `pricing`, so that a price model is readable once it is defined there; so are the JSON Schemas (`schemas`).
"""
