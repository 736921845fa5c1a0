import { runCases } from "../support/run_cases.ts";
import { cases } from "./slice_columns.cases.ts";

await runCases(cases);
