//! What libcontainer does at the end: our program instead of its own.

use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use oci_spec::runtime::Spec;

use crate::program;
use crate::seccomp::Filters;

/// Installs the filters and runs the program, under a small init if asked for.
#[derive(Clone)]
pub(super) struct Program {
    /// Compiled before the container exists, for in there is no way to tell of a fault.
    pub(super) filters: Option<Filters>,
    pub(super) init: bool,
    /// Capabilities to keep, when the library was not told to drop any; see [`super::container`].
    pub(super) capabilities: Option<super::exec::CapabilitySets>,
}

impl Executor for Program {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let none = Vec::new();
        let args = spec
            .process()
            .as_ref()
            .and_then(|process| process.args().as_ref())
            .unwrap_or(&none);
        let mut filters = self.filters.as_ref();
        if let Some(capabilities) = &self.capabilities {
            // Without `no_new_privs` only who holds CAP_SYS_ADMIN may install a filter, so that comes first.
            if let Some(filters) = filters.take() {
                filters
                    .install()
                    .map_err(|error| ExecutorError::Other(error.to_string()))?;
            }
            capabilities
                .keep_only()
                .map_err(|error| ExecutorError::Other(error.to_string()))?;
        }
        std::process::exit(program::run(args, filters, self.init))
    }

    /// A program that isn't there is found out at the start, when its container's log can say so.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}
