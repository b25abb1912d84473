//! A file with a secret key in it.
//!
//! Owns: the path, and the key once control has read the file. Keeps true: where people read (JSON, `Debug`) there is the path alone; the
//! key goes to the data plane in the form that nobody reads.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use zsync_wireguard::key::Secret;

/// A file with a private or a preshared key in it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// As the configuration has it.
    pub path: String,
    /// What is in it, once it was read.
    pub secret: Option<Secret>,
}

impl KeyFile {
    /// A file that was not read yet.
    #[must_use]
    pub fn unread(path: impl Into<String>) -> Self {
        Self { path: path.into(), secret: None }
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = if self.secret.is_some() { "read" } else { "not read" };
        write!(f, "KeyFile({:?}, {read})", self.path)
    }
}

impl Serialize for KeyFile {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            self.path.serialize(to)
        } else {
            (&self.path, self.secret.as_ref().map(Secret::expose)).serialize(to)
        }
    }
}

impl<'de> Deserialize<'de> for KeyFile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            return String::deserialize(from).map(Self::unread);
        }
        let (path, secret): (String, Option<[u8; 32]>) = Deserialize::deserialize(from)?;
        Ok(Self { path, secret: secret.map(Secret::new) })
    }
}
