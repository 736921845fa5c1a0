import { runCases } from "../support/run_cases.ts";
import { cases } from "./pool_rows.cases.ts";

await runCases(cases);
