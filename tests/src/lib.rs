//! Whole processes in network namespaces.
