import { runCases } from "../support/run_cases.ts";
import { cases } from "./dropout.cases.ts";

await runCases(cases);
