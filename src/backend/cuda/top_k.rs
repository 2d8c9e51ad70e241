//! The k largest of a flat vector.
