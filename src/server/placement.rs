//! Which executor runs on which CPU, decided once before any thread is pinned.

use std::fmt;

use crate::config::Wait;

/// CPUs that the process may use, as the kernel says at start: pinning a thread later narrows what it is told.
#[derive(Clone)]
pub(super) struct CpuMask {
    pub(super) set: libc::cpu_set_t,
    pub(super) cpus: Vec<usize>,
}

impl CpuMask {
    pub(super) fn of_process() -> std::io::Result<CpuMask> {
        // SAFETY: all zeros is an empty set, which the call fills.
        let set = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            set
        };
        // SAFETY: every index is below the size of the set.
        let is_set = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
        let cpus = (0..libc::CPU_SETSIZE as usize).filter(is_set).collect();
        Ok(CpuMask { set, cpus })
    }
}

/// "0-3,6"
fn cpu_list(cpus: &[usize]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut i = 0;
    while i < cpus.len() {
        let mut end = i;
        while end + 1 < cpus.len() && cpus[end + 1] == cpus[end] + 1 {
            end += 1;
        }
        parts.push(if end == i { cpus[i].to_string() } else { format!("{}-{}", cpus[i], cpus[end]) });
        i = end + 1;
    }
    parts.join(",")
}

/// The first core owns the replica, its ring and all voter traffic; each has a share of the clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// CPU of each core; `None` is not pinned.
    pub(crate) cores: Vec<Option<usize>>,
    pub(crate) wait: Wait,
}

impl Placement {
    /// `Err`: one line with key and value.
    pub(super) fn choose(cpus: Option<&[usize]>, wait: Wait, allowed: &[usize]) -> Result<Placement, String> {
        let Some(cpus) = cpus else { return Ok(Placement { cores: vec![None], wait }) };
        let listed = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        if cpus.is_empty() {
            return Err("kraft.cpus: the list is empty. Name at least one CPU, or leave the key out.".into());
        }
        for (i, cpu) in cpus.iter().enumerate() {
            if !allowed.contains(cpu) {
                return Err(format!(
                    "kraft.cpus={listed}: this process may not use CPU {cpu}, only {} (taskset -p, cgroup cpuset).",
                    cpu_list(allowed)
                ));
            }
            if cpus[..i].contains(cpu) {
                return Err(format!(
                    "kraft.cpus={listed}: CPU {cpu} is named twice; a core needs one of its own."
                ));
            }
        }
        Ok(Placement { cores: cpus.iter().copied().map(Some).collect(), wait })
    }

    /// What deserves a warning, in one sentence.
    pub(crate) fn doubt(&self, allowed: &[usize]) -> Option<String> {
        if self.wait != Wait::Spin {
            return None;
        }
        if self.cores == [None] {
            return Some(
                "kraft.wait=spin without kraft.cpus: the spinning core may share its CPU with others.".into(),
            );
        }
        let unpinned = allowed.len().saturating_sub(self.cores.len());
        (unpinned == 0).then(|| {
            "kraft.wait=spin with every CPU pinned: clients and the kernel's flush workers share these CPUs, which \
             costs throughput and tail latency."
                .into()
        })
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (core, cpu) in self.cores.iter().enumerate() {
            let duty = match (core, self.cores.len()) {
                (0, 1) => "replica, log, voters and all clients",
                (0, _) => "replica, log, voters and a share of the clients",
                _ => "a share of the clients",
            };
            let separator = if core == 0 { "" } else { "; " };
            match cpu {
                Some(cpu) => write!(f, "{separator}core {core} pinned to CPU {cpu}: {duty}")?,
                None => write!(f, "{separator}core {core} not pinned: {duty}")?,
            }
        }
        match self.wait {
            Wait::Sleep => write!(f, "; waits sleeping"),
            Wait::Spin => {
                write!(f, "; waits for its own flushes spinning (yielding, bounded), else sleeping")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_this_process_is_not_empty() {
        assert!(!CpuMask::of_process().unwrap().cpus.is_empty());
    }

    #[test]
    fn lists_are_short() {
        assert_eq!(cpu_list(&[0, 1, 2, 3, 6, 8, 9]), "0-3,6,8-9");
        assert_eq!(cpu_list(&[]), "");
    }

    #[test]
    fn a_pin_outside_the_mask_is_refused_with_the_mask() {
        let choose = |cpus: &[usize]| Placement::choose(Some(cpus), Wait::Sleep, &[0, 1, 4]);
        let error = choose(&[0, 2]).unwrap_err();
        assert!(error.contains("kraft.cpus=0,2") && error.contains("CPU 2, only 0-1,4"), "{error}");
        assert!(choose(&[1, 1]).unwrap_err().contains("twice"));
        assert!(choose(&[]).is_err());
        assert_eq!(choose(&[4, 0]).unwrap().cores, [Some(4), Some(0)]);
    }

    #[test]
    fn the_banner_says_who_does_what() {
        let one = Placement::choose(None, Wait::Sleep, &[0]).unwrap();
        assert_eq!(
            one.to_string(),
            "core 0 not pinned: replica, log, voters and all clients; waits sleeping"
        );
        let two = Placement::choose(Some(&[1, 0]), Wait::Spin, &[0, 1]).unwrap();
        assert!(two.to_string().contains("core 1 pinned to CPU 0: a share of the clients"));
        assert!(two.doubt(&[0, 1]).is_some());
        assert!(two.doubt(&[0, 1, 2]).is_none());
        assert!(one.doubt(&[0]).is_none());
    }
}
