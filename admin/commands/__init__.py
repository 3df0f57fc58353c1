"""The commands of `meterbook`, one module per noun: parse, call one function of the rooms below, print its answer."""
