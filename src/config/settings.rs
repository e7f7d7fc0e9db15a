//! Where settings come from and which one counts: flag, then override, then environment, then file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::properties;

/// Who set a value. A later one of the list wins over an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File { path: String, line: usize },
    Environment { variable: String },
    Override,
    Flag { name: &'static str },
}

impl Origin {
    pub(super) fn rank(&self) -> u8 {
        match self {
            Origin::Default => 0,
            Origin::File { .. } => 1,
            Origin::Environment { .. } => 2,
            Origin::Override => 3,
            Origin::Flag { .. } => 4,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{path}:{line}"),
            Origin::Environment { variable } => f.write_str(variable),
            Origin::Override => f.write_str("--override"),
            Origin::Flag { name } => f.write_str(name),
        }
    }
}

/// One key with its value (trimmed, as Kafka does) and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) origin: Origin,
}

/// A source that cannot be read at all.
#[derive(Debug, PartialEq, Eq)]
pub struct SettingsError(pub String);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A properties file is at most this long.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Variables of Kafka's shell scripts and images that are no settings (`KafkaDockerWrapper`, `kafka-run-class.sh`).
const NO_SETTINGS: &[&str] = &[
    "KAFKA_VERSION",
    "KAFKA_HOME",
    "KAFKA_DEBUG",
    "KAFKA_MODE",
    "KAFKA_OPTS",
    "KAFKA_HEAP_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_LOG4J_CMD_OPTS",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
    "KAFKA_CLASSPATH",
    "KAFKA_LIBS",
];

/// For each key the setting that counts.
#[derive(Debug, Default)]
pub struct Settings {
    by_key: BTreeMap<String, Setting>,
}

impl Settings {
    /// None yet: a key that nobody sets has its default.
    pub fn new() -> Settings {
        Settings::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Setting> {
        self.by_key.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.by_key.values()
    }

    /// Of two settings of a key the one from the stronger source counts, of equal ones the last.
    pub(crate) fn set(&mut self, key: &str, value: &str, origin: Origin) {
        let weaker = self.by_key.get(key).is_some_and(|old| old.origin.rank() > origin.rank());
        if !weaker {
            let setting = Setting { key: key.to_string(), value: value.trim().to_string(), origin };
            self.by_key.insert(key.to_string(), setting);
        }
    }

    /// Java's `.properties` syntax. Repeated keys are fine, the last one counts.
    pub(crate) fn read_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let shown = path.display().to_string();
        let fail = |why: String| SettingsError(format!("{shown}: {why}"));
        let metadata = std::fs::metadata(path).map_err(|e| {
            fail(format!("the configuration file cannot be read ({e}). Give the path of a .properties file."))
        })?;
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            return Err(fail(format!(
                "the configuration must be a regular file of at most {FILE_BYTES_MAX} bytes. Give the path of a .properties file."
            )));
        }
        let bytes = std::fs::read(path).map_err(|e| {
            fail(format!("the configuration file cannot be read ({e}). Check its permissions."))
        })?;
        self.read_properties(&shown, &bytes)
    }

    /// `shown` is the path as error messages name it.
    pub fn read_properties(&mut self, shown: &str, bytes: &[u8]) -> Result<(), SettingsError> {
        let text = properties::decode(bytes);
        let found = properties::read(&text).map_err(|e| {
            SettingsError(format!("{shown}:{}: not in the syntax of a .properties file: {e}", e.line))
        })?;
        for property in found {
            let origin = Origin::File { path: shown.to_string(), line: property.line };
            self.set(&property.key, &property.value, origin);
        }
        Ok(())
    }

    /// `KAFKA_NODE_ID` sets node.id: `_` stands for `.`, `__` for `_` and `___` for `-`, as in Kafka's container image.
    pub(crate) fn read_environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (variable, value) in variables {
            if NO_SETTINGS.contains(&variable.as_str()) {
                continue;
            }
            if let Some(name) = variable.strip_prefix("KAFKA_").filter(|name| !name.is_empty()) {
                let key = name.to_lowercase().replace('_', ".").replace("...", "-").replace("..", "_");
                self.set(&key, &value, Origin::Environment { variable });
            }
        }
    }

    /// `key=value`, the argument of `--override`.
    pub(crate) fn read_override(&mut self, argument: &str) -> Result<(), SettingsError> {
        match argument.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                self.set(key.trim(), value, Origin::Override);
                Ok(())
            }
            _ => Err(SettingsError(format!(
                "--override {}: this is not key=value. Write for example --override node.id=1.",
                argument.escape_debug()
            ))),
        }
    }
}
