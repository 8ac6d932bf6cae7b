//! Tests of segment.
