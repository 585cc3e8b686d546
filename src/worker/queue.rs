//! What waits for the inference thread, and what supersedes what: latest wins.
//!
//! A request supersedes what it makes pointless: a run the older ones of its slot, an image or a model every
//! run. Superseded work that has not begun is dropped; work that runs is stopped between two layers, or two
//! pieces of a file. A study waits elsewhere (`study`), and makes way for all that waits here. Knows requests; neither
//! models nor threads.

use std::collections::VecDeque;

use crate::{
    spec::study::StudyKind,
    worker::protocol::{Request, RunId, Slot},
};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Loading a model.
    Model,
    /// Opening an image.
    Image,
    /// Reading a mask.
    Mask,
    /// A run for a slot.
    Run(Slot),
    /// A step of a study of a run.
    Study(RunId, StudyKind),
    /// An image of a study over images.
    Survey(RunId),
}

impl Request {
    /// The lane in which it waits; none for a request that takes no time, and for a study.
    pub fn lane(&self) -> Option<Lane> {
        match self {
            Request::LoadModel(_) => Some(Lane::Model),
            Request::OpenImage(_) => Some(Lane::Image),
            Request::Mark(_) => Some(Lane::Mask),
            Request::Run { slot, .. } => Some(Lane::Run(*slot)),
            Request::Place(_)
            | Request::Cancel
            | Request::Hold(_)
            | Request::Study { .. }
            | Request::Survey { .. }
            | Request::Drop(_) => None,
        }
    }

    /// Whether work of `lane`, begun or not, is pointless once this is asked for.
    pub fn supersedes(&self, lane: Lane) -> bool {
        match (self, lane) {
            // It is about no run and not about the image on show: what is asked meanwhile leaves it as it is.
            (Request::Survey { .. }, Lane::Survey(_)) => true,
            (Request::Drop(id), Lane::Survey(of)) => *id == of,
            (_, Lane::Survey(_)) => false,
            (Request::Cancel, _) => true,
            // It is of the image that was on show when it was given.
            (_, Lane::Mask) => false,
            (Request::LoadModel(_), _) => true,
            // The model is kept and the image opened with it.
            (Request::OpenImage(_), lane) => lane != Lane::Model,
            (Request::Run { .. }, lane) => self.lane() == Some(lane),
            (Request::Study { study, .. }, Lane::Study(_, kind)) => study.kind() == kind,
            (Request::Drop(id), Lane::Study(of, _)) => *id == of,
            (
                Request::Place(_)
                | Request::Mark(_)
                | Request::Hold(_)
                | Request::Study { .. }
                | Request::Survey { .. }
                | Request::Drop(_),
                _,
            ) => false,
        }
    }

    /// Whether what goes on in `lane` stops for it: it is pointless now, or it is a study, which makes way; one over
    /// images for studies of runs, too.
    pub fn stops(&self, lane: Lane) -> bool {
        let makes_way = match lane {
            Lane::Study(..) => self.lane().is_some(),
            Lane::Survey(_) => self.lane().is_some() || matches!(self, Request::Study { .. }),
            _ => false,
        };
        self.supersedes(lane) || makes_way
    }
}

/// Requests that have not begun, oldest first.
#[derive(Debug, Default)]
pub struct Queue(VecDeque<Request>);

impl Queue {
    /// Adds a request; returns the superseded ones, which will never be served.
    pub fn push(&mut self, request: Request) -> Vec<Request> {
        let (dropped, kept): (VecDeque<Request>, VecDeque<Request>) = std::mem::take(&mut self.0)
            .into_iter()
            // A model that waits, or loads, takes along the image that was to be opened with it.
            .partition(|waiting| match (&request, waiting.lane()) {
                (Request::LoadModel(_), Some(Lane::Image)) => false,
                (request, Some(lane)) => request.supersedes(lane),
                (_, None) => false,
            });
        self.0 = kept;
        if request.lane().is_some() {
            self.0.push_back(request);
        }
        dropped.into()
    }

    /// The next to serve.
    pub fn pop(&mut self) -> Option<Request> {
        self.0.pop_front()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something waits that makes work of `lane` pointless.
    pub fn supersedes(&self, lane: Lane) -> bool {
        self.0.iter().any(|waiting| waiting.supersedes(lane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{experiment::Experiment, picture::ImageSource};

    fn image() -> ImageSource {
        ImageSource::File("a.png".into())
    }

    fn run(id: u64, slot: Slot) -> Request {
        Request::Run { id, slot, experiment: Box::new(Experiment::ask(image(), "what?", 1)) }
    }

    fn ids(queue: &mut Queue) -> Vec<u64> {
        let id = |request: Request| match request {
            Request::Run { id, .. } => id,
            _ => 0,
        };
        std::iter::from_fn(|| queue.pop()).map(id).collect()
    }

    #[test]
    fn of_two_runs_for_one_slot_the_later_is_served() {
        let mut queue = Queue::default();
        assert!(queue.push(run(1, 0)).is_empty() && queue.push(run(2, 1)).is_empty());
        assert_eq!(queue.push(run(3, 1)).len(), 1);
        assert_eq!(ids(&mut queue), [1, 3]);
    }

    #[test]
    fn an_image_supersedes_runs_and_a_cancel_everything() {
        let mut queue = Queue::default();
        queue.push(Request::LoadModel("m".into()));
        queue.push(run(1, 0));
        assert_eq!(queue.push(Request::OpenImage(image())).len(), 1);
        assert_eq!(ids(&mut queue), [0, 0], "the model is loaded, then the image opened");
        queue.push(Request::OpenImage(image()));
        queue.push(run(2, 0));
        assert_eq!(queue.push(Request::Cancel).len(), 2);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_mask_is_read_before_another_image_is_opened() {
        let mut queue = Queue::default();
        queue.push(Request::Mark("a.png".into()));
        assert!(queue.push(Request::OpenImage(image())).is_empty());
        assert!(queue.push(Request::LoadModel("m".into())).is_empty());
        assert!(matches!(queue.pop(), Some(Request::Mark(_))));
        queue.push(Request::Mark("a.png".into()));
        assert_eq!(queue.push(Request::Cancel).len(), 3);
    }

    #[test]
    fn a_study_makes_way_and_only_its_own_kind_takes_its_place() {
        use crate::spec::study::{EdgeEffect, HeadEffect, Study};
        let study = |study: Study| Request::Study {
            id: 9,
            base: Box::new(Experiment::ask(image(), "what?", 1)),
            study: Box::new(study),
        };
        let lane = Lane::Study(7, StudyKind::Heads);
        let heads = study(Study::Heads(HeadEffect { tokens: vec![] }));
        let edges = study(Study::Edges(EdgeEffect { tokens: vec![], width: 1 }));
        assert!(run(1, 0).stops(lane) && !run(1, 0).supersedes(lane));
        assert!(Request::Mark("a.png".into()).stops(lane) && Request::OpenImage(image()).stops(lane));
        assert!(heads.supersedes(lane) && !edges.stops(lane) && !Request::Hold(true).stops(lane));
        assert!(Request::Drop(7).stops(lane) && !Request::Drop(8).stops(lane));
        let mut queue = Queue::default();
        assert!(queue.push(edges).is_empty() && queue.is_empty(), "it waits elsewhere");
    }

    #[test]
    fn a_study_over_images_makes_way_for_all_else_and_outlives_it() {
        use crate::{
            spec::study::{HeadEffect, Study},
            worker::protocol::{Over, Survey},
        };
        let lane = Lane::Survey(7);
        let heads = Request::Study {
            id: 9,
            base: Box::new(Experiment::ask(image(), "what?", 1)),
            study: Box::new(Study::Heads(HeadEffect { tokens: vec![] })),
        };
        for request in [heads, run(1, 0), Request::OpenImage(image()), Request::LoadModel("m".into())] {
            assert!(request.stops(lane) && !request.supersedes(lane), "{request:?}");
        }
        for request in [Request::Cancel, Request::Hold(true), Request::Drop(8)] {
            assert!(!request.stops(lane), "{request:?}");
        }
        let over = Over::Image("a.png".into());
        let survey = Survey { kind: "lens", settings: Default::default(), over, done: vec![] };
        let another = Request::Survey { id: 8, survey: Box::new(survey) };
        assert!(another.supersedes(lane) && !another.stops(Lane::Study(7, StudyKind::Lens)));
        assert!(Request::Drop(7).supersedes(lane) && another.lane().is_none());
    }

    #[test]
    fn another_model_keeps_the_image_that_waits_to_be_opened() {
        let mut queue = Queue::default();
        queue.push(Request::OpenImage(image()));
        queue.push(run(1, 0));
        assert_eq!(queue.push(Request::LoadModel("m".into())).len(), 1);
        assert_eq!(ids(&mut queue).len(), 2);
    }
}
