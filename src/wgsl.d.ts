/** A WGSL file, imported as its text; the build's plugin (`build/wgsl_plugin.ts`) does it. */
declare module "*.wgsl" {
  const source: string;
  export default source;
}
