//! The stages: one file each.

pub mod answer;
pub mod balance;
pub mod decide;
pub mod fragment;
pub mod macswap;
pub mod nat;
pub mod owner;
pub mod parse;
pub mod partial;
pub mod patch;
pub mod route;
pub mod track;

#[cfg(test)]
mod fixture;
