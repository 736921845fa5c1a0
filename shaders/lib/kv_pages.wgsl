// On which page of the pool a token is, for the kernels that write there.
//
// The linking kernel has page_table [slots, max_pages], params.slots, params.max_pages and params.pages.

const PAGE_TOKENS: u32 = 32u;
const NO_PAGE: u32 = 0xffffffffu;

// The page of a (slot, position): NO_PAGE for inactive rows, positions past the slot's pages and page numbers past the
// pool, where WebGPU would move a store to some other page.
fn page_of(entry: vec2<u32>) -> u32 {
  let index = entry.y / PAGE_TOKENS;
  if (entry.x >= params.slots || index >= params.max_pages) {
    return NO_PAGE;
  }
  let page = page_table[entry.x * params.max_pages + index];
  return select(NO_PAGE, page, page < params.pages);
}
