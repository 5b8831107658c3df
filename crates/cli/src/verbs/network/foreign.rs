//! Docker's flags of `network create` that Linkspan has no use for: taken when they ask for what is so anyhow, else refused
//! with the reason. None is in the help.

use super::create::boolean;
use crate::failure::Misuse;

#[derive(Debug, clap::Args)]
pub(super) struct Foreign {
    /// Any container may be put on any network
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    attachable: Option<bool>,
    #[arg(long, hide = true)]
    scope: Option<String>,
    #[arg(long, hide = true)]
    ingress: bool,
    #[arg(long, hide = true)]
    config_only: bool,
    #[arg(long, hide = true)]
    config_from: Option<String>,
    #[arg(long, hide = true)]
    ipam_driver: Option<String>,
    #[arg(long = "ipam-opt", hide = true)]
    ipam_options: Vec<String>,
    #[arg(long = "ip-range", hide = true)]
    ip_ranges: Vec<String>,
    #[arg(long = "aux-address", hide = true)]
    aux_addresses: Vec<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    ipv4: Option<bool>,
}

impl Foreign {
    /// An error if one of them asks for something.
    pub(super) fn refuse(&self) -> Result<(), Misuse> {
        let other = |written: &Option<String>, ours: &str| written.as_ref().is_some_and(|text| text != ours);
        let swarm = "is of Docker's swarm; Linkspan's networks are of one host";
        let refused = [
            (other(&self.scope, "local"), "--scope", swarm),
            (self.ingress, "--ingress", swarm),
            (self.config_only, "--config-only", swarm),
            (self.config_from.is_some(), "--config-from", swarm),
            (
                other(&self.ipam_driver, "default"),
                "--ipam-driver",
                "is not supported: Linkspan gives out addresses itself; leave it away",
            ),
            (
                !self.ipam_options.is_empty(),
                "--ipam-opt",
                "is not supported: Linkspan gives out addresses itself; leave it away",
            ),
            (
                !self.ip_ranges.is_empty(),
                "--ip-range",
                "is not supported: addresses are given out of the whole subnet; write a smaller `--subnet`",
            ),
            (
                !self.aux_addresses.is_empty(),
                "--aux-address",
                "is not supported: addresses are given out of the whole subnet; write a `--subnet` without that address",
            ),
            (
                self.ipv4 == Some(false),
                "--ipv4=false",
                "is not supported: a network has IPv4 wherever this host has it",
            ),
        ];
        match refused.into_iter().find(|(asked, ..)| *asked) {
            Some((_, flag, why)) => Err(Misuse::new(format!("`{flag}` {why}"))),
            None => Ok(()),
        }
    }
}
