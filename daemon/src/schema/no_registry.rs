//! In place of a registry in a program that is built without the feature `schema-registry`: routes that need one are
//! refused before they come here.

use std::{convert::Infallible, io, os::fd::BorrowedFd};

use super::{RegistryConfig, Unshaped};
use crate::settings::RouteName;

/// There is none.
pub(super) struct Registry(Infallible);

impl Registry {
    pub(super) fn new(_: RegistryConfig, _: RouteName) -> io::Result<Self> {
        Err(io::Error::other(
            "this devourd was built without the feature `schema-registry`",
        ))
    }

    pub(super) fn wake_fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }

    pub(super) fn take_answers(&mut self) -> Vec<u32> {
        match self.0 {}
    }

    pub(super) fn decode<'a>(&'a mut self, _: &'a [u8]) -> Result<&'a [u8], Unshaped> {
        match self.0 {}
    }
}
