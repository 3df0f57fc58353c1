"""What pricing promises: figures from hand arithmetic and worked examples, and laws that hold for all usage."""
