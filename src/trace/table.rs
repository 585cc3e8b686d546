//! A table as plain data: a name, columns, and rows of values.
//!
//! Knows neither views nor files.

/// A table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// What it is a table of: the name of its file.
    pub name: String,
    /// Headings, units among them.
    pub columns: Vec<String>,
    /// One value a column each.
    pub rows: Vec<Vec<Value>>,
}

/// What stands in one place of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Words.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// A number of the model's own precision.
    Number(f32),
    /// There is none.
    Nothing,
}

impl Table {
    /// A table without rows.
    pub fn new<'a>(name: impl Into<String>, columns: impl IntoIterator<Item = &'a str>) -> Self {
        let columns = columns.into_iter().map(String::from).collect();
        Table { name: name.into(), columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: impl Into<Vec<Value>>) {
        self.rows.push(row.into());
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_string())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Whole(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Value::Whole(number.into())
    }
}

impl From<usize> for Value {
    /// A number beyond 64 bits with a sign, which nothing here counts to, becomes the largest of them.
    fn from(number: usize) -> Self {
        Value::Whole(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f32> for Value {
    fn from(number: f32) -> Self {
        Value::Number(number)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Nothing, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_made_of_what_there_is() {
        let mut table = Table::new("heads", ["layer", "head", "attention to the image"]);
        table.push([3_usize.into(), Value::from("mean"), Value::from(Some(0.5))]);
        table.push(vec![Value::from(4_u32), Value::from(-1_i64), None::<f32>.into()]);
        let expected = [
            vec![Value::Whole(3), Value::Text("mean".into()), Value::Number(0.5)],
            vec![Value::Whole(4), Value::Whole(-1), Value::Nothing],
        ];
        assert_eq!(table.rows, expected);
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()));
    }
}
