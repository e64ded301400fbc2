//! Results against PyTorch, librosa and plain Python, from golden files.

mod aacnn;
mod attention;
mod audio;
mod augment;
mod cnn_att;
mod conv;
mod loss;
mod models;
mod musicnn;
mod norm;
mod pretraining;
mod recurrent;
mod sightreader;
mod vggish;
mod visual;
mod yamnet;

mod formula;
mod support;
