// Elements of four bytes, copied as they are: masks are words, and -Infinity stays what it is.

alias Element = u32;

fn element_slot(i: u32) -> u32 {
  return i;
}

fn word_of(element: Element, i: u32) -> u32 {
  return element;
}
