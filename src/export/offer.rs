//! What a view gives away, as the bytes of a file.

use std::path::{Path, PathBuf};

use crate::{
    export::{csv::csv, error::ExportError, figure_png, npz::npz, picture::png, svg::svg, tensors},
    files::output::write_file,
    statistics::finite::all_finite,
    trace::{
        offer::{Format, Offer},
        tensors::NamedTensor,
    },
};

/// The bytes of an offer's file.
///
/// # Errors
/// [`ExportError::Encode`], under the name that its file would have: it has no such form, does not fit together, or
/// holds NaN or an infinity.
pub fn encode(offer: &Offer, format: Format) -> Result<Vec<u8>, ExportError> {
    let file = PathBuf::from(offer.file_name(format));
    let fail = |why: String| ExportError::Encode { file: file.clone(), why };
    let not_finite = || fail("NaN or an infinity is among its numbers".to_string());
    match (offer, format) {
        (Offer::Figure(figure), Format::Svg | Format::Png) if !figure.is_finite() => Err(not_finite()),
        (Offer::Figure(figure), Format::Svg) => Ok(svg(figure).into_bytes()),
        (Offer::Figure(figure), Format::Png) => figure_png::png(figure).map_err(fail),
        (Offer::Table(table), Format::Csv) => csv(table).map_err(fail),
        (Offer::Map(map), Format::Png) => match map.is_finite() {
            true => png(map).map_err(fail),
            false => Err(not_finite()),
        },
        (Offer::Tensors { tensors, .. }, Format::Npz) => {
            check(tensors).map_err(fail)?;
            npz(tensors).map_err(fail)
        }
        (Offer::Tensors { tensors, .. }, Format::Safetensors) => {
            check(tensors).map_err(fail)?;
            in_safetensors(tensors, &file)
        }
        (Offer::Json { text, .. }, Format::Json) => Ok(text.clone().into_bytes()),
        _ => {
            let known: Vec<&str> = offer.formats().iter().map(|format| format.name()).collect();
            let name = format.name();
            Err(fail(format!("it has no form as {name}: take {}", known.join(" or "))))
        }
    }
}

/// Writes one file: whole, or not at all.
///
/// # Errors
/// [`ExportError::Write`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    Ok(write_file(path, bytes)?)
}

/// Whether every tensor is whole and of numbers, and has a name of its own.
fn check(tensors: &[NamedTensor]) -> Result<(), String> {
    for (n, tensor) in tensors.iter().enumerate() {
        let NamedTensor { name, shape, values } = tensor;
        if !tensor.is_whole() {
            return Err(format!("`{name}` has {} values, expected those of {shape:?}", values.len()));
        }
        if !all_finite(values) {
            return Err(format!("NaN or an infinity is among the values of `{name}`"));
        }
        if tensors.iter().take(n).any(|other| other.name == *name) {
            return Err(format!("two tensors are called `{name}`"));
        }
    }
    Ok(())
}

fn in_safetensors(tensors: &[NamedTensor], file: &Path) -> Result<Vec<u8>, ExportError> {
    let whole = tensors.iter().map(|tensor| {
        let NamedTensor { name, shape, values } = tensor;
        tensors::Tensor::whole(name, shape.clone(), &values[..])
    });
    let mut bytes = Vec::new();
    tensors::pieces(whole.collect(), &[], file, &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use image::RgbImage;
    use safetensors::SafeTensors;

    use super::*;
    use crate::trace::{
        figure::{Figure, Ink, Mark},
        geometry::{Geometry, Grid, Place, View},
        sheet::MapSheet,
        table::{Table, Value},
    };

    fn map(value: f32) -> Offer {
        let grid = Grid { rows: 1, cols: 1 };
        let view = View { place: Place::Whole, rect: [0.0, 0.0, 8.0, 8.0], grid, lead: 0 };
        let geometry = Geometry { source: (8, 8), rows: 0, cols: 0, views: vec![view] };
        let picture = Arc::new(RgbImage::new(8, 8));
        Offer::Map(Box::new(MapSheet::new(picture, &geometry, &[value], true, (0.0, 1.0))))
    }

    fn figure(x: f32) -> Offer {
        let mut figure = Figure::new([10.0, 10.0], "shares");
        figure.add(Mark::line(vec![[x, 0.0], [1.0, 1.0]], Ink::Text, 1.0));
        Offer::Figure(figure)
    }

    fn table(value: Value) -> Offer {
        let mut table = Table::new("words", ["effect"]);
        table.push([value]);
        Offer::Table(table)
    }

    fn tensors(values: Vec<f32>) -> Offer {
        Offer::Tensors { name: "row".into(), tensors: vec![NamedTensor::new("pattern", [2], values)] }
    }

    #[test]
    fn every_offer_has_the_forms_that_it_names_and_no_other() {
        let all = [Format::Png, Format::Svg, Format::Csv, Format::Npz, Format::Safetensors, Format::Json];
        let json = Offer::Json { name: "study".into(), text: "{}".into() };
        for offer in [map(0.5), figure(0.5), table(Value::Number(0.5)), tensors(vec![0.5; 2]), json] {
            for format in all {
                let done = encode(&offer, format);
                assert_eq!(
                    done.is_ok(),
                    offer.formats().contains(&format),
                    "{format:?} of {}",
                    offer.title()
                );
                match done {
                    Ok(bytes) => assert!(!bytes.is_empty()),
                    Err(e) => assert!(e.to_string().contains(": take "), "{e}"),
                }
            }
        }
        let bytes = encode(&tensors(vec![0.5, -1.0]), Format::Safetensors).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let pattern = file.tensor("pattern").unwrap();
        assert_eq!(pattern.shape(), [2]);
        assert_eq!(pattern.data(), [0.5_f32.to_le_bytes(), (-1.0_f32).to_le_bytes()].concat());
    }

    #[test]
    fn what_is_no_number_is_written_by_none() {
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        for (offer, format) in [
            (map(infinity), Format::Png),
            (figure(nan), Format::Svg),
            (figure(nan), Format::Png),
            (table(Value::Number(nan)), Format::Csv),
            (tensors(vec![0.0, nan]), Format::Npz),
            (tensors(vec![infinity, 0.0]), Format::Safetensors),
        ] {
            let error = encode(&offer, format).unwrap_err().to_string();
            assert!(error.contains(&offer.file_name(format)), "{error}");
        }
        assert!(encode(&map(nan), Format::Png).is_ok(), "a patch without a value");
        assert!(encode(&table(Value::Nothing), Format::Csv).is_ok());
        for format in [Format::Npz, Format::Safetensors] {
            let error = encode(&tensors(vec![0.0; 3]), format).unwrap_err().to_string();
            assert!(error.contains("`pattern` has 3 values, expected those of [2]"), "{error}");
            let twice = Offer::Tensors {
                name: "row".into(),
                tensors: vec![NamedTensor::new("a", [1], vec![0.0]), NamedTensor::new("a", [1], vec![0.0])],
            };
            assert!(encode(&twice, format).unwrap_err().to_string().contains("two tensors are called `a`"));
        }
    }
}
