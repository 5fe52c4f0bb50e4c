// Order of what a search finds: guides answer questions, so they come before commands, notebooks and the reference.
const RANKS = [[/^guides\//, 300], [/^(index|commands)$/, 200], [/^(api\/|modules)/, 0], [/./, 100]];
var Scorer = {
  objNameMatch: 11, objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,  // as Sphinx has them
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
  // A part of a word is no answer, so it moves no page up.
  score: ([page, , , , score]) => (score < Scorer.term ? score : score + RANKS.find(([pattern]) => pattern.test(page))[1]),
};
