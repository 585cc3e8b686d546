//! What is asked of the worker for studies over images, and why it may not be asked.

use crate::{
    spec::picture::ImageSource,
    studies::survey::{kind::Kind, kinds, settings::Settings},
    ui::store::{
        store::Store,
        studies::State,
        surveys::{ImageFolder, OF_ONE_IMAGE, SurveyChoice},
    },
    worker::protocol::{Over, Request, Survey},
};

impl Store {
    /// Why a study cannot begin now, with what to do; `None` where it can.
    pub fn why_no_survey(&self, kind: &Kind) -> Option<String> {
        let objects = match &self.surveys.folder {
            Some(folder) => folder.objects,
            None => self.image().is_some_and(|image| image.objects.iter().any(|all| !all.is_empty())),
        };
        let file = self.images.source().map(ImageSource::file);
        let why = match (&self.surveys.folder, file) {
            _ if self.model.is_none() => "Open a model first.".to_string(),
            _ if self.wanted.loading() => "Wait until the model and the image are there.".to_string(),
            _ if self.surveys.running().is_some() => "Stop the study that goes on first.".to_string(),
            (None, None) => "Open an image first, or choose a folder.".to_string(),
            (None, Some(None)) => {
                "A pasted image lies in no file: save it, and open that file, or choose a folder.".to_string()
            }
            (None, _) if !OF_ONE_IMAGE.contains(&kind.name) => {
                format!("`{}` says nothing of one image: choose a folder.", kind.name)
            }
            (None, _) if self.prompt.trim().is_empty() => "Write a question first.".to_string(),
            _ if !kind.plain && !objects => {
                let what =
                    "It needs objects whose pixels are known: a folder of scenes, one with COCO annotations";
                format!("{what}, or an image with a mask (File, Open mask).")
            }
            _ => return None,
        };
        Some(why)
    }

    /// Why the study on show cannot go on from where it stopped; `None` where it can.
    pub fn why_not_on(&self) -> Option<String> {
        let run = self.surveys.get()?;
        let same = self.model.as_ref().is_some_and(|model| model.info.sha256 == run.model.sha256);
        (!same).then(|| format!("Open {} to go on: that is the model of this study.", run.model.name))
    }

    /// Begins a study, in the place of the last.
    pub(super) fn survey(&mut self, choice: SurveyChoice) -> Vec<Request> {
        let Some(kind) = kinds::of(choice.kind).filter(|kind| self.why_no_survey(kind).is_none()) else {
            return Vec::new();
        };
        let prompt = Some(self.prompt.trim().to_string());
        let (over, settings) = match (&self.surveys.folder, self.images.source()) {
            (Some(folder), _) => {
                let prompt = prompt.filter(|_| choice.asks);
                let over = Over::Folder { dir: folder.dir.clone(), limit: choice.limit };
                (over, Settings { prompt, ..Settings::default() })
            }
            (None, Some(ImageSource::File(file))) => {
                let length = Some(self.asking.max_new);
                (Over::Image(file.clone()), Settings { prompt, length, ..Settings::default() })
            }
            (None, _) => return Vec::new(),
        };
        let Some(model) = self.model.as_ref().map(|model| model.info.clone()) else { return Vec::new() };
        let survey = Survey { kind: kind.name, settings, over, done: Vec::new() };
        let id = self.runs.next_id();
        self.surveys.begin(id, kind, survey.clone(), model);
        vec![Request::Survey { id, survey: Box::new(survey) }]
    }

    /// Goes on with the study on show.
    pub(super) fn go_on_with_survey(&mut self) -> Vec<Request> {
        let stopped = |state: &State| !matches!(state, State::Running | State::Whole);
        if self.why_not_on().is_some() || !self.surveys.get().is_some_and(|run| stopped(&run.state)) {
            return Vec::new();
        }
        let id = self.runs.next_id();
        let survey = self.surveys.go_on(id).map(Box::new);
        survey.map(|survey| Request::Survey { id, survey }).into_iter().collect()
    }

    /// Chooses what the next study goes through.
    pub(super) fn survey_over(&mut self, folder: Option<ImageFolder>) {
        if let Some(ImageFolder { dir, images, .. }) = &folder {
            let text = format!("{}: {images} images to study, in the view Studies.", dir.display());
            self.notices.push(text);
        }
        self.surveys.folder = folder;
    }
}
