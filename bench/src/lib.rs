//! Traffic generator and measurements.
