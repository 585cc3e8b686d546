//! What the image view gives away: the map as a sheet, a table of its patches, and the tensors behind it.
//!
//! The numbers are those of the map on show. Knows the selection; nothing of files.

use std::sync::Arc;

use image::{RgbImage, imageops};

use crate::{
    trace::{
        geometry::Geometry,
        offer::Offer,
        sheet::{MapSheet, SheetGrid, Underlay},
        table::{Table, Value},
        tensors::NamedTensor,
        tokens::Cell,
    },
    ui::{
        store::{
            images::Held,
            settings::{ColorRange, Views},
            store::Store,
        },
        view::{
            image::apart::arranged,
            image::words::{about, cuts_of, n_sinks, runs, seen_as, sink_words, subject, view_name},
            map::Kept,
        },
        widgets::{
            heatmap::Map,
            lattice::{Shown, Sight, shares},
            map_values::MapValues,
        },
    },
};

/// Pixels between two views of a sheet.
const GAP: u32 = 12;

/// A picture on a sheet: its map, what it shows, and where it lies.
struct Part {
    map: Map,
    shown: Shown,
    sight: Sight,
    /// In pixels of the sheet.
    place: [f32; 4],
}

/// Everything that the view gives away.
pub fn offers(store: &Store, kept: &mut Kept) -> Vec<Offer> {
    let Some(held) = store.image_shown() else { return Vec::new() };
    let (picture, size, parts) = match store.map.views {
        Views::Apart if !held.view.views.is_empty() => apart(store, held, kept),
        views => whole(store, held, kept, Sight::of(views)),
    };
    if parts.is_empty() {
        return Vec::new();
    }
    let table = table(store, held, &parts);
    let mut offers =
        vec![Offer::Map(Box::new(sheet(store, held, picture, size, &parts))), Offer::Table(table)];
    offers.extend(tensors(store));
    offers
}

fn whole(
    store: &Store,
    held: &Held,
    kept: &mut Kept,
    sight: Sight,
) -> (Arc<RgbImage>, (u32, u32), Vec<Part>) {
    let size = held.view.geometry.source;
    let shown = Shown::of(&held.view.geometry, sight);
    let place = [0.0, 0.0, size.0 as f32, size.1 as f32];
    let part = kept.map(store).map(|map| Part { map, shown, sight, place });
    (held.view.picture.clone(), size, part.into_iter().collect())
}

/// All views on one sheet.
fn apart(store: &Store, held: &Held, kept: &mut Kept) -> (Arc<RgbImage>, (u32, u32), Vec<Part>) {
    let geometry = &held.view.geometry;
    let views = &held.view.views;
    let side = |of: fn(&RgbImage) -> u32| views.iter().map(|view| of(view)).max().unwrap_or(1);
    let (w, h) = (side(RgbImage::width), side(RgbImage::height));
    let arranged = arranged(geometry, true);
    let along = |n: usize, side: u32| (n as u32 * (side + GAP)).saturating_sub(GAP).max(1);
    let size = (along(arranged.cols, w), along(arranged.rows, h));
    let mut sheet = RgbImage::from_pixel(size.0, size.1, image::Rgb([255; 3]));
    let mut parts = Vec::new();
    for (view, (pixels, (row, col))) in views.iter().zip(&arranged.places).enumerate() {
        let (x, y) = (*col as u32 * (w + GAP), *row as u32 * (h + GAP));
        imageops::replace(&mut sheet, &**pixels, i64::from(x), i64::from(y));
        let end = ((x + pixels.width()) as f32, (y + pixels.height()) as f32);
        let sight = Sight::View(view);
        if let Some(map) = kept.view_map(store, view) {
            let shown = Shown::of(geometry, sight);
            parts.push(Part { map, shown, sight, place: [x as f32, y as f32, end.0, end.1] });
        }
    }
    (Arc::new(sheet), size, parts)
}

/// A rectangle of a part in pixels of the sheet.
fn placed(part: &Part, rect: [f32; 4]) -> [f32; 4] {
    let [x0, y0, x1, y1] = part.place;
    let (x, y) = (|share: f32| x0 + share * (x1 - x0), |share: f32| y0 + share * (y1 - y0));
    [x(rect[0]), y(rect[1]), x(rect[2]), y(rect[3])]
}

fn sheet(store: &Store, held: &Held, picture: Arc<RgbImage>, source: (u32, u32), parts: &[Part]) -> MapSheet {
    let (mut patches, mut grids, mut outlines) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        grids.extend(grids_of(part, &held.view.geometry, patches.len()));
        let values = values(&part.map);
        let all = part.map.patches.iter().zip(values.all());
        patches.extend(all.map(|(patch, value)| (placed(part, patch.rect), *value)));
        outlines.extend(outlines_of(store, held, part, &values).into_iter().map(|line| placed(part, line)));
    }
    let first = parts.first().map(|part| &part.map);
    let visible = store.map.visible;
    MapSheet {
        picture,
        source,
        patches,
        grids,
        range: first.map_or((0.0, 0.0), |map| map.range),
        colormap: first.map_or(store.map.colormap, |map| map.colormap),
        gamma: store.map.gamma,
        smooth: store.map.smooth,
        opacity: if visible { first.map_or(0.0, |map| map.opacity) } else { 0.0 },
        underlay: if visible { store.map.underlay } else { Underlay::Colour },
        outlines,
        caption: caption(store, held),
        settings: settings(store, held),
    }
}

fn values(map: &Map) -> MapValues {
    let mut values = MapValues::default();
    values.follow(Some(map));
    values
}

/// The grids that a part's patches form, of which the first has this number.
fn grids_of(part: &Part, geometry: &Geometry, first: usize) -> Vec<SheetGrid> {
    let mut first = first;
    let mut grids = Vec::new();
    let seen = geometry.views.iter().enumerate().filter(|(view, _)| part.sight.shows(geometry, *view));
    for (_, view) in seen {
        let rect = placed(part, shares(view.rect, part.shown.frame));
        grids.push(SheetGrid { rect, rows: view.grid.rows, cols: view.grid.cols, first });
        first += view.grid.len();
    }
    grids
}

/// Lines and rectangles over a part, as shares of it: what is locked and painted, masks, the peak.
fn outlines_of(store: &Store, held: &Held, part: &Part, values: &MapValues) -> Vec<[f32; 4]> {
    let mut lines = part.shown.border(&store.selection.patches);
    if let Some(painted) = store.cut.painted() {
        lines.extend(part.shown.border(painted));
    }
    if store.map.marks {
        let known = held.view.objects.iter().flatten().flat_map(|object| object.outline.iter());
        let known = known.map(|line| shares(*line, part.shown.frame));
        let within = |line: &[f32; 4]| line.iter().all(|share| (-1e-3..=1.001).contains(share));
        lines.extend(known.filter(within));
        let peak = values.peak().and_then(|at| part.map.patches.get(at));
        lines.extend(peak.filter(|_| store.map.visible).map(|patch| patch.rect));
    }
    lines
}

fn caption(store: &Store, held: &Held) -> Vec<String> {
    let mut lines = vec![about(store)];
    if let Some(subject) = store.subject() {
        lines.push(format!("{}; {}", cuts_of(subject.run), subject.run.experiment.question()));
        lines.extend(sink_words(n_sinks(store), store.map.without_sinks));
    }
    lines.push(format!("{}: {}", held.view.source.name(), seen_as(held)));
    lines
}

fn settings(store: &Store, held: &Held) -> Vec<(String, String)> {
    let (layer, head) = store.selection.looked_at();
    let range = match store.map.range {
        ColorRange::Map => "this map".to_string(),
        ColorRange::Layers => "all layers".to_string(),
        ColorRange::Locked(high) => format!("locked at {high}"),
    };
    let mut settings = vec![
        ("image", held.view.source.name()),
        ("shown", runs(store)),
        ("word", subject(store)),
        ("layer", layer.to_string()),
        ("head", head.map_or("mean".to_string(), |head| head.to_string())),
        ("range", range),
        ("gamma", store.map.gamma.to_string()),
        ("colours", store.map.colormap.name().to_string()),
        ("smooth", store.map.smooth.to_string()),
        ("sinks left out", store.map.without_sinks.to_string()),
        ("views", store.map.views.name().to_string()),
    ];
    if let Some(model) = store.model_info() {
        settings.extend([("model", model.name.clone()), ("weights", model.sha256.clone())]);
    }
    if let Some(subject) = store.subject() {
        let experiment = &subject.run.experiment;
        settings.push(("run", format!("{}: {}", store.runs.name(subject.slot), cuts_of(subject.run))));
        settings.push(("question", experiment.question()));
        settings.push(("seed", experiment.seed.to_string()));
    }
    if let Some((difference, run)) =
        store.difference().and_then(|d| Some((d, store.runs.lane(d.against).view()?)))
    {
        let name = store.runs.name(difference.against);
        settings.push(("less", format!("{name}: {}", cuts_of(run))));
    }
    settings.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

/// One row a patch.
fn table(store: &Store, held: &Held, parts: &[Part]) -> Table {
    let what = if store.difference().is_some() { "difference of attention" } else { "attention" };
    let columns = ["patch", "view", "row", "column", "x0", "y0", "x1", "y1", what];
    let mut table = Table::new(format!("map of {}", about(store)), columns);
    let geometry = &held.view.geometry;
    for part in parts {
        let values = values(&part.map);
        for (at, number) in part.shown.numbers().enumerate() {
            let Some((view, Cell { row, col })) = geometry.cell_of(number) else { continue };
            let rect =
                geometry.views.get(view).map(|view| view.rect_of(Cell { row, col })).unwrap_or_default();
            let name = match view_name(geometry, view) {
                name if name.is_empty() => "whole".to_string(),
                name => name,
            };
            let mut cells = vec![Value::from(number), name.into(), row.into(), col.into()];
            cells.extend(rect.map(Value::from));
            cells.push(values.get(at).into());
            table.push(cells);
        }
    }
    table
}

/// What the map is of: every layer and head, and where the visual tokens stand in it.
fn tensors(store: &Store) -> Option<Offer> {
    let subject = store.subject()?;
    let pattern = subject.pattern;
    let shape = vec![pattern.n_layers, pattern.n_heads, pattern.n_keys];
    let keys: Vec<f32> = subject.run.visual_keys().into_iter().map(|key| key as f32).collect();
    let mut tensors = vec![
        NamedTensor::new("pattern", shape, pattern.data.clone()),
        NamedTensor::new("visual_keys", [keys.len()], keys),
    ];
    if let Some(difference) = store.difference() {
        let row = &difference.pattern;
        let shape = vec![row.n_layers, row.n_heads, row.n_keys];
        tensors.push(NamedTensor::new("difference", shape, row.data.clone()));
    }
    Some(Offer::Tensors { name: format!("attention of {}", about(store)), tensors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        trace::{
            geometry::{Grid, Place, View},
            palette::Colormap,
            pattern::PatternRow,
        },
        ui::widgets::heatmap::Patch,
    };

    #[test]
    fn a_view_and_its_patches_lie_where_it_stands_on_the_sheet() {
        let view = |place, rect, lead| View { place, rect, grid: Grid { rows: 1, cols: 2 }, lead };
        let views = vec![
            view(Place::Tile { row: 0, col: 0 }, [0.0, 0.0, 40.0, 40.0], 0),
            view(Place::Tile { row: 0, col: 1 }, [40.0, 0.0, 80.0, 40.0], 0),
            view(Place::Whole, [0.0, 0.0, 80.0, 40.0], 1),
        ];
        let geometry = Geometry { source: (80, 40), rows: 1, cols: 2, views };
        let map = Map {
            row: PatternRow { n_layers: 1, n_heads: 1, n_keys: 0, data: Arc::new(Vec::new()) },
            resident: None,
            patches: Vec::<Patch>::new().into(),
            layer: 0,
            head: None,
            range: (0.0, 1.0),
            colormap: Colormap::Inferno,
            gamma: 1.0,
            smooth: false,
            opacity: 1.0,
            uniform: None,
            slot: 0,
        };
        let part = |sight, place| Part { map: map.clone(), shown: Shown::of(&geometry, sight), sight, place };
        let tile = part(Sight::View(1), [100.0, 0.0, 120.0, 20.0]);
        assert_eq!(placed(&tile, [0.5, 0.0, 1.0, 1.0]), [110.0, 0.0, 120.0, 20.0]);
        let rect = [100.0, 0.0, 120.0, 20.0];
        assert_eq!(grids_of(&tile, &geometry, 7), [SheetGrid { rect, rows: 1, cols: 2, first: 7 }]);
        let tiles = grids_of(&part(Sight::Tiles, [0.0, 0.0, 80.0, 40.0]), &geometry, 0);
        assert_eq!((tiles.len(), tiles[1].first, tiles[1].rect), (2, 2, [40.0, 0.0, 80.0, 40.0]));
    }
}
