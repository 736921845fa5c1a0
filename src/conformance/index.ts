export {
  type CaseFile,
  type CaseResult,
  caseLine,
  closingLine,
  type ConformanceOptions,
  type ConformanceReport,
  type OutputResult,
  runConformance,
} from "./run.ts";
