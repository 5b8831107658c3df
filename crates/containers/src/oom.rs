//! Whom the kernel ends when memory runs out: a container, not the shim beside it.
//!
//! Every process inherits its score from whoever began it, in the end from the daemon, whose systemd unit protects it. A
//! container must not have that from us: a program that eats all memory would be the last to go. See proc_pid_oom_score_adj(5).

/// As other engines do for theirs. A shim has two megabytes; ending it frees nothing, and takes its container along.
const OF_SHIMS: i32 = -998;
/// Where a program begins that nobody chose anything for.
const OF_PROGRAMS: i32 = 0;

/// Protects this process. Where that isn't permitted, it keeps what it has.
pub(crate) fn be_a_shim() {
    set(OF_SHIMS);
}

/// Makes this process, and what it begins, like any other. Where that isn't permitted, for in a daemon that was told to go
/// first its containers may not go later, it keeps what it has.
pub(crate) fn be_a_program() {
    set(OF_PROGRAMS);
}

fn set(score: i32) {
    let _ = std::fs::write("/proc/self/oom_score_adj", score.to_string());
}
