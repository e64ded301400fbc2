//! The piece of `wmic demo`: a score of its own, played with a few recorded notes that are part of the crate
//! (`assets/demo`), so that it is known when each instrument plays.

use std::fs;
use std::path::Path;

use super::notes::{Notes, SR};
use super::recipe::{Equaliser, Placed, Plan, Room, Track};
use super::render::Renderer;
use super::{Instruments, rendered};
use crate::audio::{Depth, write_wav};
use crate::core::error::{Error, Result};
use crate::core::files::{read_limited, write_atomic};
use crate::core::portable::{exp2, log2};

/// A bundled note.
struct Recorded {
    class: &'static str,
    /// Of a stroke, as the score has it; of other notes their pitch.
    name: &'static str,
    /// Fundamental frequency as measured; 0 for strokes.
    hz: f64,
    ogg: &'static [u8],
}

const fn note(class: &'static str, name: &'static str, hz: f64, ogg: &'static [u8]) -> Recorded {
    Recorded { class, name, hz, ogg }
}

const NOTES: [Recorded; 16] = [
    note("bass", "C2", 65.2, include_bytes!("../../../assets/demo/bass-c2.ogg")),
    note("cello", "C3", 130.7, include_bytes!("../../../assets/demo/cello-c3.ogg")),
    note("cello", "C4", 261.0, include_bytes!("../../../assets/demo/cello-c4.ogg")),
    note("cymbals", "crash", 0.0, include_bytes!("../../../assets/demo/cymbals-crash.ogg")),
    note("cymbals", "hat", 0.0, include_bytes!("../../../assets/demo/cymbals-hat.ogg")),
    note("drums", "kick", 0.0, include_bytes!("../../../assets/demo/drums-kick.ogg")),
    note("drums", "snare", 0.0, include_bytes!("../../../assets/demo/drums-snare.ogg")),
    note("drums", "tom", 0.0, include_bytes!("../../../assets/demo/drums-tom.ogg")),
    note("mallet_percussion", "B3", 247.3, include_bytes!("../../../assets/demo/mallet_percussion-b3.ogg")),
    note("mallet_percussion", "C5", 524.6, include_bytes!("../../../assets/demo/mallet_percussion-c5.ogg")),
    note("mallet_percussion", "F4", 349.1, include_bytes!("../../../assets/demo/mallet_percussion-f4.ogg")),
    note("mallet_percussion", "G5", 782.9, include_bytes!("../../../assets/demo/mallet_percussion-g5.ogg")),
    note("trombone", "F3", 174.6, include_bytes!("../../../assets/demo/trombone-f3.ogg")),
    note("ukulele", "B4", 494.6, include_bytes!("../../../assets/demo/ukulele-b4.ogg")),
    note("ukulele", "D4", 296.6, include_bytes!("../../../assets/demo/ukulele-d4.ogg")),
    note("ukulele", "Gb4", 370.3, include_bytes!("../../../assets/demo/ukulele-gb4.ogg")),
];

/// Chords, by their names in the score, as a ukulele is strummed.
const CHORDS: [(&str, &str); 4] =
    [("G", "G4+D4+G4+B4"), ("Em", "G4+E4+G4+B4"), ("C", "G4+C4+E4+C5"), ("D", "A4+D4+Gb4+A4")];
/// Samples from one string of a chord to the next.
const STRUM: usize = 160;
/// Samples of a quaver, of which a bar has eight: 125 crotchets a minute.
const QUAVER: usize = 3_840;
const BARS: usize = 15;
/// Samples that the last notes have to fade away.
const TAIL: usize = SR as usize / 2;
/// dB of a note between two crotchets, relative to those on one.
const OFF_BEAT: f64 = -2.0;

/// What an instrument plays.
struct Line {
    class: &'static str,
    level_db: f64,
    /// Notes ring until they have faded, not until the next one.
    rings: bool,
    /// From a bar on, quaver by quaver: a pitch, a chord or a stroke, or several with `+`; `-` goes on; `.` is a rest.
    bars: &'static [(usize, &'static str)],
}

const SCORE: [Line; 7] = [
    Line {
        class: "ukulele",
        level_db: -2.0,
        rings: false,
        bars: &[
            (1, "G - G G - G G G | D - D D - D D D | Em - Em Em - Em Em Em | C - C C - C C ."),
            (15, "G - - - - - - -"),
        ],
    },
    Line {
        class: "bass",
        level_db: 1.0,
        rings: false,
        bars: &[
            (3, "E2 - - - B1 - D2 - | C2 - - - G1 - B1 - | G1 - - - D2 - B1 - | E2 - - - B1 - D2 -"),
            (7, "C2 - - - G1 - B1 - | D2 - - - A1 - D2 ."),
            (11, "G1 - - G1 D2 - B1 - | E2 - - E2 B1 - D2 - | C2 - - C2 G1 - B1 - | D2 - - D2 A1 - D2 -"),
            (15, "G1 - - - - - - -"),
        ],
    },
    Line {
        class: "cello",
        level_db: 0.0,
        rings: false,
        bars: &[(5, "D4 - - - B3 - G3 - | E4 - - - D4 - B3 - | C4 - E4 - G3 - C4 - | A3 - - - D4 - - .")],
    },
    Line {
        class: "mallet_percussion",
        level_db: -2.0,
        rings: true,
        bars: &[(9, "E4 B4 G4 B4 E5 B4 G4 B4 | C5 G4 E4 G4 C5 E5 G5 E5")],
    },
    Line {
        class: "drums",
        level_db: 3.0,
        rings: true,
        bars: &[
            (10, ". . . . tom tom snare snare | kick . snare . kick kick snare . | kick . snare . kick kick snare ."),
            (13, "kick . snare . kick kick snare . | kick . snare . tom tom snare snare | kick . . . . . . ."),
        ],
    },
    Line {
        class: "cymbals",
        level_db: -8.0,
        rings: true,
        bars: &[
            (11, "crash - hat hat hat hat hat hat | hat hat hat hat hat hat hat hat"),
            (13, "hat hat hat hat hat hat hat hat | hat hat hat hat hat hat hat hat | crash - - - - - - -"),
        ],
    },
    Line {
        class: "trombone",
        level_db: 0.0,
        rings: false,
        bars: &[
            (11, "D3 - - E3 G3 - Gb3 - | E3 - G3 - B2 - - . | C3 - D3 E3 G3 - E3 - | A3 - G3 Gb3 D3 - E3 Gb3"),
            (15, "G3 - - - - - - ."),
        ],
    },
];

/// A piece of music of about 29 s, and when each of its seven instruments plays.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Mono, 16 kHz.
    pub samples: Vec<f32>,
    /// Names of the classes.
    pub classes: Vec<String>,
    pub instruments: Instruments,
}

impl Piece {
    /// Plays the score.
    ///
    /// # Errors
    /// `Io` without a place for temporary files.
    pub fn play() -> Result<Piece> {
        let folder = tempfile::tempdir().map_err(Error::io(std::env::temp_dir()))?;
        for Recorded { class, name, ogg, .. } in &NOTES {
            let of_class = folder.path().join(class);
            let file = of_class.join(name).with_extension("ogg");
            fs::create_dir_all(&of_class).and_then(|()| fs::write(&file, ogg)).map_err(Error::io(&file))?;
        }
        let notes = Notes::decode(folder.path(), &|| false, &mut |_, _| {})?.expect("nothing stops it");
        let samples = BARS * 8 * QUAVER + TAIL;
        let plan = Plan {
            tracks: SCORE.iter().map(|line| line.track(&notes, samples)).collect(),
            alone: None,
            room: Some(Room { len: SR as usize, delay: 160, level_db: -16.0, seed: 1 }),
            eq: None,
            noise: None,
            drive: None,
        };
        let piece = rendered(&Renderer::new(samples), &notes, &plan, samples as f64 / f64::from(SR));
        Ok(Piece { samples: piece.samples, classes: notes.classes, instruments: piece.instruments })
    }

    /// Writes it as `NAME.wav`, 16-bit, and its times as `NAME.csv`: file, instrument, start and end in seconds.
    ///
    /// # Errors
    /// `Io` for what cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        let path = folder.join(name);
        // First: by the times it is known whose files these are, also if the rest is missing.
        write_atomic(path.with_extension("csv"), |out| out.write_all(self.times(name).as_bytes()))?;
        write_wav(path.with_extension("wav"), SR, &self.samples, Depth::Int16)
    }

    /// Whether [`Piece::write`] has written it to the folder before.
    pub fn is_in(&self, folder: &Path, name: &str) -> bool {
        let times = self.times(name);
        let found = read_limited(folder.join(name).with_extension("csv"), times.len() as u64);
        found.is_ok_and(|found| found == times.as_bytes())
    }

    fn times(&self, name: &str) -> String {
        let row = |class: usize, [start, end]: [f64; 2]| format!("{name}.wav,{},{start},{end}\n", self.classes[class]);
        let of =
            |(class, times): &(usize, Vec<[f64; 2]>)| times.iter().map(|time| row(*class, *time)).collect::<String>();
        "file,instrument,start,end\n".to_owned() + &self.instruments.iter().map(of).collect::<String>()
    }
}

impl Line {
    fn track(&self, notes: &Notes, samples: usize) -> Track {
        let mut placed = vec![];
        for (bar, text) in self.bars {
            let tokens: Vec<&str> = text.split_whitespace().filter(|token| *token != "|").collect();
            for (i, token) in tokens.iter().enumerate().filter(|(_, token)| !["-", "."].contains(token)) {
                let held = tokens[i + 1..].iter().take_while(|token| **token == "-").count() + 1;
                let chord = CHORDS.iter().find(|(name, _)| name == token).map_or(*token, |(_, chord)| chord);
                for (string, pitch) in chord.split('+').enumerate() {
                    let (key, speed) = self.recorded(pitch);
                    let note = notes.notes.iter().position(|note| note.key == key).expect("all of them are decoded");
                    let at = ((bar - 1) * 8 + i) * QUAVER + string * STRUM;
                    let whole = ((notes.notes[note].samples.len() - 1) as f64 / speed) as usize;
                    let len = if self.rings { whole } else { whole.min(held * QUAVER) };
                    let level_db = if i % 2 == 0 { 0.0 } else { OFF_BEAT };
                    placed.push(Placed { note, at, len: len.min(samples - at), speed, level_db });
                }
            }
        }
        let class = notes.classes.iter().position(|class| class == self.class).expect("a class has notes");
        let eq = Equaliser { tilt: 0.0, bumps: [[0.0, 0.0, 1.0]; 3], low_pass: None, high_pass: None };
        Track { class, notes: placed, speech: None, eq, room: None, level_db: self.level_db }
    }

    /// The recorded note nearest to a pitch, and its speed; of strokes the one of that name.
    fn recorded(&self, name: &str) -> (String, f64) {
        let of_class = NOTES.iter().filter(|note| note.class == self.class);
        let (note, octaves) = match octaves(name) {
            None => (of_class.clone().find(|note| note.name == name), 0.0),
            Some(pitch) => {
                let above = |note: &Recorded| pitch - log2(note.hz / 440.0);
                let nearest = of_class.min_by(|a, b| above(a).abs().total_cmp(&above(b).abs()));
                (nearest, nearest.map_or(0.0, above))
            }
        };
        let note = note.unwrap_or_else(|| panic!("the score of {} has {name}", self.class));
        (format!("{}/{}.ogg", note.class, note.name), exp2(octaves))
    }
}

/// A pitch such as `Gb4` in octaves above A4; `None` for strokes.
fn octaves(name: &str) -> Option<f64> {
    let (letter, octave) = name.split_at(name.len() - 1);
    let octave: i32 = octave.parse().ok()?;
    let names = ["C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B"];
    let semitone = names.iter().position(|name| *name == letter)? as i32 - 9;
    Some(f64::from(octave - 4) + f64::from(semitone) / 12.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_piece_has_its_bars_and_its_instruments_where_the_score_has_them() {
        for Line { class, bars, .. } in &SCORE {
            let ends = bars.iter().map(|(bar, text)| (*bar, bar + text.split('|').count()));
            let ends: Vec<(usize, usize)> = ends.collect();
            assert!(ends.windows(2).all(|two| two[0].1 <= two[1].0), "{class}: bars overlap");
            assert!(ends.iter().all(|(first, end)| *first >= 1 && *end <= BARS + 1), "{class}");
            for text in bars.iter().flat_map(|(_, text)| text.split('|')) {
                assert_eq!(text.split_whitespace().count(), 8, "{class}: a bar of eight quavers: {text}");
            }
        }
        let piece = Piece::play().unwrap();
        let bar = (8 * QUAVER) as f64 / f64::from(SR);
        for (line, (class, times)) in SCORE.iter().zip(&piece.instruments) {
            assert_eq!(piece.classes[*class], line.class);
            let first = (line.bars[0].0 - 1) as f64 * bar;
            let rest = line.bars[0].1.split_whitespace().take_while(|token| *token == ".").count();
            let first = first + rest as f64 * bar / 8.0;
            assert!((times[0][0] - first).abs() <= 0.1, "{}: {times:?} begins at {first}", line.class);
        }
    }
}
