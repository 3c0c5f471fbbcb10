"""Clean, filter and match text: pure functions, independent of Beam."""
