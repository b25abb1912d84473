//! The control process.
pub mod dataplane;
pub mod history;
pub mod installation;
pub mod placement;
pub mod privileges;
pub mod routes;
pub mod sockets;
