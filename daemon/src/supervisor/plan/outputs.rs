//! The producer of what a route's plugin produces.

use super::PlanFinding;
use crate::{
    kafka::{self, ClientProperties},
    settings::Route,
};

/// Its properties: those of all routes of a cluster are the same, unless one has further ones of its own. What librdkafka
/// says of them is heard when something is produced: most routes never do.
pub(super) fn properties(route: &Route) -> Result<ClientProperties, Vec<PlanFinding>> {
    let told = |findings: Vec<kafka::PropertyFinding>| findings.into_iter().map(PlanFinding::from).collect();
    kafka::output_properties(&route.cluster).map_err(told)
}
