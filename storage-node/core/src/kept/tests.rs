//! What is kept, told by hand.
