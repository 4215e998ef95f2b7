"""The method itself: pure functions of arrays, arrays in and arrays out."""
