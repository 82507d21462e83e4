//! What clients may do, on a broker that asks.

use std::time::Duration;

use super::{Broker, KafkaError, jars};
use crate::command;

/// The client of [`super::Tls::client_cert`], as the broker knows it.
const CLIENT: &str = "User:CN=client";
const WITHIN: Duration = Duration::from_secs(60);

impl Broker {
    /// Lets the client of the fixture's certificate do these operations (`Read`, `Write`, `Describe`, ...) on a resource:
    /// `topic` or `group`, and its name. Needs [`super::BrokerOptions::acls`].
    pub fn allow(&self, operations: &[&str], (resource, name): (&str, &str)) -> Result<(), KafkaError> {
        let mut tool = jars::tool("org.apache.kafka.tools.AclCommand")?;
        tool.args([
            "--bootstrap-server",
            &self.bootstrap(),
            "--add",
            "--allow-principal",
            CLIENT,
        ]);
        for operation in operations {
            tool.args(["--operation", operation]);
        }
        tool.args([&format!("--{resource}"), name]);
        let broken = |text: String| KafkaError::Broken(format!("an ACL for {resource} {name}: {text}"));
        let done = command::run(&mut tool, WITHIN).map_err(|error| broken(error.to_string()))?;
        if done.exit == crate::process::Exit::Status(0) {
            Ok(())
        } else {
            Err(broken(done.printed()))
        }
    }
}
