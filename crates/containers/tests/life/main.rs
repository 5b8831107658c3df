//! Containers from their making to their removal, on the real kernel, with both OCI runtimes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

/// Runs a test with our runtime and with runc.
macro_rules! both {
    ($($name:ident($rig:ident) $body:block)*) => { $(
        mod $name {
            // Not every test names anything.
            #[allow(unused_imports)]
            use super::*;
            async fn check(mut $rig: crate::rig::Rig) {
                let _ = &mut $rig;
                $body
            }
            #[tokio::test]
            async fn ours() {
                if crate::rig::possible(crate::rig::Runtime::Ours) {
                    check(crate::rig::Rig::new(crate::rig::Runtime::Ours)).await;
                }
            }
            #[tokio::test]
            async fn runc() {
                if crate::rig::possible(crate::rig::Runtime::Runc) {
                    check(crate::rig::Rig::new(crate::rig::Runtime::Runc)).await;
                }
            }
        }
    )* };
}

mod binds;
mod by_hand;
mod daemon;
mod fences;
mod files;
mod network;
mod program;
mod rig;
