import { runCases } from "../support/run_cases.ts";
import { cases } from "./sample.cases.ts";

await runCases(cases);
