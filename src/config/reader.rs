//! Reads one key after the other: the value that counts, checked and turned into a type.
//!
//! A key that is read here is known by that, so the list of known keys cannot drift from the code. Errors are collected,
//! so that a user sees them all at once, and the value in force is noted for `--print-config`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::known;
use super::protection;
use super::settings::{Origin, Setting, Settings};
use super::{ConfigError, Effective, Note};

pub(super) struct Reader<'a> {
    settings: &'a Settings,
    errors: Vec<ConfigError>,
    effective: Vec<Effective>,
    notes: Vec<Note>,
    known: BTreeSet<&'static str>,
}

pub(super) struct Finished {
    pub(super) errors: Vec<ConfigError>,
    pub(super) effective: Vec<Effective>,
    pub(super) notes: Vec<Note>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(settings: &'a Settings) -> Reader<'a> {
        Reader {
            settings,
            errors: Vec::new(),
            effective: Vec::new(),
            notes: Vec::new(),
            known: BTreeSet::new(),
        }
    }

    /// The setting of a key that has one name only.
    pub(crate) fn find(&mut self, key: &'static str) -> Option<&'a Setting> {
        self.known.insert(key);
        self.settings.get(key)
    }

    /// The setting of a key with a name in each dialect. Both at once, from sources of the same rank, must agree.
    pub(super) fn find_either(&mut self, key: &'static str, other: &'static str) -> Option<&'a Setting> {
        match (self.find(key), self.find(other)) {
            (Some(a), Some(b)) if a.origin.rank() == b.origin.rank() => {
                if a.value != b.value {
                    let why = format!(
                        "{} says {}={}, and both mean the same setting. Remove one of them.",
                        b.origin,
                        b.key,
                        b.value.escape_debug()
                    );
                    self.refuse(a, why);
                }
                Some(a)
            }
            (Some(a), Some(b)) => Some(if a.origin.rank() > b.origin.rank() { a } else { b }),
            (a, b) => a.or(b),
        }
    }

    /// A wrong value.
    pub(crate) fn refuse(&mut self, setting: &Setting, why: impl Into<String>) {
        self.errors.push(ConfigError {
            place: Some(setting.origin.to_string()),
            key: setting.key.clone(),
            value: Some(setting.value.clone()),
            why: why.into(),
        });
    }

    /// A key that must be there and is not, or values that do not go together.
    pub(super) fn miss(&mut self, key: &str, why: impl Into<String>) {
        self.errors.push(ConfigError { place: None, key: key.to_string(), value: None, why: why.into() });
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(Note { warning: false, text: text.into() });
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.notes.push(Note { warning: true, text: text.into() });
    }

    /// Note a value in force under its name of today.
    pub(crate) fn effective(&mut self, key: &'static str, value: impl Display, setting: Option<&Setting>) {
        let origin = setting.map_or(Origin::Default, |s| s.origin.clone());
        let written_as = setting.filter(|s| s.key != key).map(|s| s.key.clone());
        self.effective.push(Effective { key, value: value.to_string(), origin, written_as });
    }

    /// Parse a setting that was found; a value that does not parse is refused and `default` stands in for it.
    pub(crate) fn value<T: Display + Clone>(
        &mut self,
        key: &'static str,
        setting: Option<&Setting>,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        let value = match setting.map(|s| (s, parse(&s.value))) {
            None => default,
            Some((_, Ok(value))) => value,
            Some((s, Err(why))) => {
                self.refuse(s, why);
                default
            }
        };
        self.effective(key, &value, setting);
        value
    }

    /// A key without a default: absent and empty mean none.
    pub(super) fn optional<T: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let setting = self.find(key);
        let Some(present) = setting.filter(|s| !s.value.is_empty()) else {
            self.effective(key, "", setting);
            return None;
        };
        match parse(&present.value) {
            Ok(value) => {
                self.effective(key, &value, setting);
                Some(value)
            }
            Err(why) => {
                self.refuse(present, why);
                None
            }
        }
    }

    pub(crate) fn number<T>(&mut self, key: &'static str, default: T, bounds: RangeInclusive<T>) -> T
    where
        T: Copy + Display + FromStr + PartialOrd,
    {
        let setting = self.find(key);
        self.number_of(key, setting, default, bounds)
    }

    pub(super) fn number_of<T>(
        &mut self,
        key: &'static str,
        setting: Option<&Setting>,
        default: T,
        bounds: RangeInclusive<T>,
    ) -> T
    where
        T: Copy + Display + FromStr + PartialOrd,
    {
        self.value(key, setting, default, |text| parse_number(text, &bounds))
    }

    /// All that was collected. Keys that nobody has asked for are noted here.
    pub(crate) fn finish(mut self) -> Finished {
        let settings = self.settings;
        let mut unused = Vec::new();
        for setting in settings.iter() {
            if self.known.contains(setting.key.as_str()) {
                continue;
            }
            if let Some(why) = protection::broken_promise(&setting.key, &setting.value) {
                self.refuse_promise(setting, why);
            } else if known::is_kafka_key(&setting.key) {
                unused.push(setting.key.as_str());
            } else {
                self.warn_unknown(setting);
            }
        }
        if !unused.is_empty() {
            self.note(format!("Accepted keys of Kafka that mean nothing here: {}.", unused.join(", ")));
        }
        Finished { errors: self.errors, effective: self.effective, notes: self.notes }
    }

    fn refuse_promise(&mut self, setting: &Setting, why: &str) {
        let value = (!protection::is_secret(&setting.key)).then(|| setting.value.clone());
        let place = Some(setting.origin.to_string());
        self.errors.push(ConfigError {
            place,
            key: setting.key.escape_debug().to_string(),
            value,
            why: why.to_string(),
        });
    }

    fn warn_unknown(&mut self, setting: &Setting) {
        let candidates = self.known.iter().copied().chain(known::kafka_keys());
        let advice = match known::nearest(&setting.key, candidates) {
            Some(near) => format!("Did you mean {near}?"),
            None => "It is ignored.".to_string(),
        };
        let key = setting.key.escape_debug().to_string();
        self.warn(format!("{}: the key {key} is unknown. {advice}", setting.origin));
    }
}

fn parse_number<T: Copy + Display + FromStr + PartialOrd>(
    text: &str,
    bounds: &RangeInclusive<T>,
) -> Result<T, String> {
    let parsed: Option<T> = text.parse().ok().filter(|n| bounds.contains(n));
    parsed.ok_or_else(|| format!("this must be a whole number from {} to {}.", bounds.start(), bounds.end()))
}
