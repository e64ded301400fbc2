// Where the values of a replica lie in a binding, in Values; of a gradient also whether it is wanted, and whether it is
// added to what is there.
struct Place {
    at: u32,
    stride: u32, // from one replica to the next; 0 for what all share
    wanted: u32,
    accumulate: u32,
}

fn at_place(place: Place, replica: u32, column: u32) -> u32 { return place.at + replica * place.stride + column; }
