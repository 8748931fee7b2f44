//! A flat row: what every command prints, as a JSON object or under columns.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Names and values, in the order in which people want to read them. Never nested.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row(Vec<(Cow<'static, str>, Value)>);

impl Row {
    /// An empty row.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Add a value.
    pub fn put(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        self.0.push((name.into(), value.into()));
    }

    /// Add a value, if there is one.
    pub fn put_some(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// The value under `name`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        let mut values = self.0.iter();
        values
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }
}

impl fmt::Display for Row {
    /// One JSON object without line breaks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (name, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}:{value}", Value::from(name.as_ref()))?;
        }
        f.write_str("}")
    }
}

impl FromIterator<(String, Value)> for Row {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(members: I) -> Self {
        let mut row = Self::new();
        for (name, value) in members {
            row.put(name, value);
        }
        row
    }
}

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

/// Takes members in the order in which they come.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a flat JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Row, A::Error> {
        let mut row = Row::new();
        while let Some((name, value)) = members.next_entry::<String, Value>()? {
            row.put(name, value);
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_json_object_in_the_order_of_its_making() {
        let mut row = Row::new();
        row.put("z", 1);
        row.put("a \"b\"", "line\nbreak");
        row.put_some("absent", None::<u32>);
        assert_eq!(row.to_string(), r#"{"z":1,"a \"b\"":"line\nbreak"}"#);
        assert_eq!(row.value("z"), Some(&Value::from(1)));
        assert_eq!(serde_json::from_str::<Row>(&row.to_string()).unwrap(), row);
    }
}
