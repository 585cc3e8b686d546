//! The memory of cached keys and values.
//!
//! `[heads, keys, width]`, float32 or float16, with room behind the last row of every head, so that new rows
//! are written there and nothing moves; keys by column, values by row ([`Lie`]). Knows memory and who holds
//! it; does not know layers, positions or attention.

#![allow(clippy::result_large_err, reason = "what is declined is handed back, and is no error")]

use burn::{
    backend::{
        Flex,
        flex::{FlexTensor, Layout},
    },
    tensor::{Bytes, DType, Shape, Tensor},
};
use half::f16;

use super::{
    flex::{flex, is_plain},
    lanes::{Number, PANEL},
    strides::{Cube, spread},
};

/// How a cache lies within a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The same number of all rows side by side, as scores read keys.
    Columns,
    /// The numbers of a row side by side, as mixing reads values.
    Rows,
}

/// `old` `[heads, keys, width]` with the rows of `new` appended, in the format `dtype`. Written behind
/// the old rows where their memory has room and nobody else holds it; else moved to a larger place.
///
/// # Errors
/// Gives `old` back.
pub fn append(
    old: Option<Tensor<3>>,
    new: &Tensor<3>,
    dtype: DType,
    lie: Lie,
) -> Result<Tensor<3>, Option<Tensor<3>>> {
    let Some(view) = flex(new) else { return Err(old) };
    let Some(new) = Cube::<f32>::new(&view).filter(|new| new.strides[2] == 1) else { return Err(old) };
    if old.as_ref().is_some_and(|old| old.dtype() != dtype || !is_plain(old)) {
        return Err(old);
    }
    let taken = old.map(|old| old.try_into_primitive::<Flex>().expect("just seen to be one"));
    match dtype {
        DType::F32 => Ok(append_as::<f32>(taken, new, lie)),
        DType::F16 => Ok(append_as::<f16>(taken, new, lie)),
        _ => Err(taken.map(Tensor::from_primitive::<Flex>)),
    }
}

fn append_as<T: Number>(old: Option<FlexTensor>, new: Cube<'_, f32>, lie: Lie) -> Tensor<3> {
    let [heads, added, width] = new.shape;
    let len = old.as_ref().map_or(0, |old| old.layout().shape()[1]);
    let all = len + added;
    // Values are padded so that whole panels can be read; keys have room for that behind the last.
    let wide = match lie {
        Lie::Columns => width,
        Lie::Rows => width.next_multiple_of(PANEL),
    };
    let strides = |room: usize| match lie {
        Lie::Columns => [room * wide, 1, room],
        Lie::Rows => [room * wide, wide, 1],
    };
    // Rows that a head has room for, where they lie as this function laid them.
    let room = |old: &FlexTensor| {
        let layout = old.layout();
        let room = layout.strides()[0] as usize / wide;
        let ours = layout.start_offset() == 0 && layout.strides() == strides(room).map(|s| s as isize);
        (ours && old.is_unique() && old.bytes().len() >= heads * room * wide * size_of::<T>()).then_some(room)
    };
    let (mut buffer, room) = match old.map(|old| (room(&old), old)) {
        Some((Some(room), old)) if room >= all => (old, room),
        old => {
            let room = spread(all + all / 2 + 1);
            let mut values = vec![T::zeroed(); heads * room * wide];
            if let Some(old) = old.as_ref().and_then(|(_, old)| Cube::<T>::new(old)) {
                place(old, &mut values, strides(room), 0);
            }
            let layout = Layout::contiguous(Shape::from([heads, room, wide]));
            (FlexTensor::new(Bytes::from_elems(values), layout, T::dtype()), room)
        }
    };
    let mut rows = vec![T::zeroed(); heads * added * width];
    for (n, row) in rows.chunks_exact_mut(width).enumerate() {
        T::round(new.row(n / added, n % added), row);
    }
    let rows = Cube { data: &rows, shape: new.shape, strides: [added * width, width, 1] };
    place(rows, buffer.storage_mut(), strides(room), len);
    let strides = strides(room).map(|s| s as isize).to_vec();
    let layout = Layout::new(Shape::from([heads, all, width]), strides, 0);
    Tensor::from_primitive::<Flex>(buffer.with_layout(layout))
}

/// Writes rows behind the first `len` of every head, along whichever side is written in one piece.
fn place<T: Number>(from: Cube<'_, T>, to: &mut [T], strides: [usize; 3], len: usize) {
    let [heads, rows, width] = from.shape;
    let (long, across) = if strides[1] == 1 { ([1, 2], width) } else { ([2, 1], rows) };
    let [along, step] = long;
    for (head, i) in (0..heads).flat_map(|head| (0..across).map(move |i| (head, i))) {
        let to = &mut to[head * strides[0] + i * strides[step] + len * strides[1]..][..from.shape[along]];
        let from_here = &from.data[head * from.strides[0] + i * from.strides[step]..];
        match from.strides[along] {
            1 => to.copy_from_slice(&from_here[..to.len()]),
            stride => to.iter_mut().zip(from_here.iter().step_by(stride)).for_each(|(to, from)| *to = *from),
        }
    }
}
