//! Landlock: of all files only those that resolving names and checking servers' certificates need, to be read.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};

use super::ConfineError;

/// Read by the resolver and by the loader of trusted certificates. Missing ones are no error.
const READ: [&str; 7] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/ssl",
    "/etc/pki",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];

/// Takes every other file away from this thread. Sockets and descriptors that are open stay.
pub(super) fn restrict() -> Result<(), ConfineError> {
    let abi = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        // Nor may it signal other programs or connect to their abstract unix sockets.
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(READ, AccessFs::ReadFile | AccessFs::ReadDir))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        tracing::info!("this kernel has no Landlock: files are guarded by the user id alone");
    }
    Ok(())
}
