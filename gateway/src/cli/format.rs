//! Rows as JSON Lines, CSV or GeoJSON, one at a time.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::control::Row;

/// What an export looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// JSON Lines: one flat object a row
    Jsonl,
    /// Comma separated values with a header, as in RFC 4180
    Csv,
    /// A GeoJSON FeatureCollection of the rows that have a position
    Geojson,
}

/// Writes rows in a format.
pub(super) struct Writer<W> {
    out: W,
    format: Format,
    columns: &'static [&'static str],
    features: u64,
}

impl<W: Write> Writer<W> {
    /// Begin; `columns` are those of a table.
    pub(super) fn begin(
        mut out: W,
        format: Format,
        columns: &'static [&'static str],
    ) -> io::Result<Self> {
        match format {
            Format::Jsonl => {}
            Format::Csv => write!(out, "{}\r\n", columns.join(","))?,
            Format::Geojson => write!(out, "{{\"type\":\"FeatureCollection\",\"features\":[")?,
        }
        Ok(Self {
            out,
            format,
            columns,
            features: 0,
        })
    }

    /// Write one row.
    pub(super) fn row(&mut self, row: &Row) -> io::Result<()> {
        match self.format {
            Format::Jsonl => writeln!(self.out, "{row}"),
            Format::Csv => self.record(row),
            Format::Geojson => self.feature(row),
        }
    }

    /// Finish what was begun.
    pub(super) fn end(mut self) -> io::Result<()> {
        if self.format == Format::Geojson {
            writeln!(self.out, "\n]}}")?;
        }
        self.out.flush()
    }

    fn record(&mut self, row: &Row) -> io::Result<()> {
        for (index, column) in self.columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let cell = row.value(column).map(cell).unwrap_or_default();
            write!(self.out, "{comma}{cell}")?;
        }
        write!(self.out, "\r\n")
    }

    fn feature(&mut self, row: &Row) -> io::Result<()> {
        let (Some(lat), Some(lon)) = (row.value("lat"), row.value("lon")) else {
            return Ok(());
        };
        let members = row
            .iter()
            .filter(|(name, _)| !matches!(*name, "lat" | "lon"));
        let properties: Row = members
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect();
        let comma = if self.features == 0 { "" } else { "," };
        self.features += 1;
        let geometry = json!({"type": "Point", "coordinates": [lon, lat]});
        write!(
            self.out,
            "{comma}\n{{\"type\":\"Feature\",\"geometry\":{geometry},\"properties\":{properties}}}"
        )
    }
}

/// A value as a cell of RFC 4180.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[&str] = &["seq", "lat", "lon", "title"];

    fn rows() -> Vec<Row> {
        let mut placed = Row::new();
        placed.put("seq", 1);
        placed.put("lat", 51.9);
        placed.put("lon", 4.5);
        let mut unplaced = Row::new();
        unplaced.put("seq", 2);
        unplaced.put("title", "too \"warm\", look");
        vec![placed.clone(), unplaced, placed]
    }

    fn written(format: Format) -> String {
        let mut out = Vec::new();
        let mut writer = Writer::begin(&mut out, format, COLUMNS).unwrap();
        for row in rows() {
            writer.row(&row).unwrap();
        }
        writer.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_lines_have_one_object_a_row() {
        let text = written(Format::Jsonl);
        assert_eq!(text.lines().count(), 3);
        assert_eq!(
            text.lines().next(),
            Some(r#"{"seq":1,"lat":51.9,"lon":4.5}"#)
        );
    }

    #[test]
    fn csv_quotes_what_needs_it_and_leaves_cells_empty() {
        let expected =
            "seq,lat,lon,title\r\n1,51.9,4.5,\r\n2,,,\"too \"\"warm\"\", look\"\r\n1,51.9,4.5,\r\n";
        assert_eq!(written(Format::Csv), expected);
    }

    #[test]
    fn geojson_holds_the_rows_with_a_position_in_longitude_latitude_order() {
        let text: Value = serde_json::from_str(&written(Format::Geojson)).unwrap();
        assert_eq!(text["type"], "FeatureCollection");
        let features = text["features"].as_array().unwrap();
        assert_eq!(features.len(), 2);
        assert_eq!(features[0]["geometry"]["coordinates"], json!([4.5, 51.9]));
        assert_eq!(features[0]["properties"], json!({"seq": 1}));
    }

    #[test]
    fn an_empty_geojson_is_still_a_collection() {
        let mut out = Vec::new();
        Writer::begin(&mut out, Format::Geojson, COLUMNS)
            .unwrap()
            .end()
            .unwrap();
        let text: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(text["features"], json!([]));
    }
}
