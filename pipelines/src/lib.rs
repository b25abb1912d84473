//! Stages, tables, the configuration and its compiler.
