//! A table as CSV: UTF-8, one row of headings, numbers as short as they read back the same.

use ::csv::Writer;

use crate::trace::table::{Table, Value};

/// The bytes of a table's file.
///
/// # Errors
/// In words: a row of another length than the headings', or a number that is none.
pub fn csv(table: &Table) -> Result<Vec<u8>, String> {
    let mut out = Writer::from_writer(Vec::new());
    out.write_record(&table.columns).map_err(|e| e.to_string())?;
    for (number, row) in table.rows.iter().enumerate() {
        if row.len() != table.columns.len() {
            return Err(format!("row {number} has {} values, expected {}", row.len(), table.columns.len()));
        }
        for (value, column) in row.iter().zip(&table.columns) {
            let field = match value {
                Value::Text(text) => text.clone(),
                Value::Whole(number) => number.to_string(),
                Value::Number(value) if value.is_finite() => digits(*value),
                Value::Number(value) => return Err(format!("`{column}` of row {number} is {value}")),
                Value::Nothing => String::new(),
            };
            out.write_field(field).map_err(|e| e.to_string())?;
        }
        out.write_record(None::<&[u8]>).map_err(|e| e.to_string())?;
    }
    out.into_inner().map_err(|e| e.to_string())
}

/// A number as short as it reads back the same; the smallest with an exponent.
fn digits(value: f32) -> String {
    let small = value != 0.0 && value.abs() < 1e-4;
    if small || value.abs() >= 1e15 { format!("{value:e}") } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_read_back_as_it_was() {
        let mut table = Table::new("words", ["token", "id", "log probability (nats)"]);
        let numbers = [-0.1_f32, 1.0 / 3.0, 1e-30, f32::MAX, 0.0];
        for number in numbers {
            table.push([Value::from(" du,ck\n\"字\""), Value::Whole(3), number.into()]);
        }
        table.push([Value::from("#"), Value::Nothing, Value::Nothing]);
        let bytes = csv(&table).unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.starts_with("token,id,log probability (nats)\n"), "{text}");
        let mut reader = ::csv::Reader::from_reader(&bytes[..]);
        let rows: Vec<_> = reader.records().map(|row| row.unwrap()).collect();
        for (row, number) in rows.iter().zip(numbers) {
            assert_eq!((&row[0], &row[1]), (" du,ck\n\"字\"", "3"));
            assert_eq!(row[2].parse::<f32>().unwrap(), number);
        }
        assert_eq!(rows[5].iter().collect::<Vec<_>>(), ["#", "", ""]);
    }

    #[test]
    fn what_is_no_number_and_what_does_not_fit_is_refused() {
        let mut table = Table::new("words", ["token", "effect"]);
        table.push([Value::from("a"), Value::Number(0.5)]);
        assert!(csv(&table).is_ok());
        table.push([Value::from("b"), Value::Number(f32::NAN)]);
        assert_eq!(csv(&table).unwrap_err(), "`effect` of row 1 is NaN");
        table.rows[1] = vec![Value::Nothing];
        assert_eq!(csv(&table).unwrap_err(), "row 1 has 1 values, expected 2");
    }
}
