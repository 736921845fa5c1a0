import { runCases } from "../support/run_cases.ts";
import { cases } from "./column_sums.cases.ts";

await runCases(cases);
