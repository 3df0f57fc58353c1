"""Tests on real servers; folders mirror the rooms, plus replay, chaos, stories and bench."""
