"""The words of the project as frozen dataclasses, and the Protocols between its packages.

Imports nothing of ours outside this package and nothing heavy: every module, and user code, may import from here.
A *group* is the completions of one prompt; a *step* is one cycle of decide, draw, roll out, score, update.
"""

from harness.types.answers import Answerer as Answerer
from harness.types.answers import Question as Question
from harness.types.answers import Reply as Reply
from harness.types.data import PROMPT_COLUMNS as PROMPT_COLUMNS
from harness.types.data import Answer as Answer
from harness.types.data import Completion as Completion
from harness.types.data import Evaluation as Evaluation
from harness.types.data import Example as Example
from harness.types.data import Group as Group
from harness.types.data import Message as Message
from harness.types.data import Metrics as Metrics
from harness.types.data import More as More
from harness.types.data import Progress as Progress
from harness.types.data import Prompt as Prompt
from harness.types.data import Sampler as Sampler
from harness.types.data import Score as Score
from harness.types.data import StepOutcome as StepOutcome
from harness.types.data import no_more as no_more
from harness.types.data import no_progress as no_progress
from harness.types.decisions import ONLY_NOW as ONLY_NOW
from harness.types.decisions import Action as Action
from harness.types.decisions import ActionKind as ActionKind
from harness.types.decisions import CheckedDecision as CheckedDecision
from harness.types.decisions import Decision as Decision
from harness.types.decisions import EffectVerdict as EffectVerdict
from harness.types.decisions import Finding as Finding
from harness.types.decisions import Knobs as Knobs
from harness.types.decisions import KnobValue as KnobValue
from harness.types.decisions import Source as Source
from harness.types.decisions import Verdict as Verdict
from harness.types.protocols import Aim as Aim
from harness.types.protocols import DecisionPolicy as DecisionPolicy
from harness.types.protocols import EffectJudge as EffectJudge
from harness.types.protocols import Evaluator as Evaluator
from harness.types.protocols import NewRun as NewRun
from harness.types.protocols import Pool as Pool
from harness.types.protocols import R as R
from harness.types.protocols import Scorer as Scorer
from harness.types.protocols import Store as Store
from harness.types.protocols import Trainer as Trainer
from harness.types.records import ENDED as ENDED
from harness.types.records import Asked as Asked
from harness.types.records import Bucket as Bucket
from harness.types.records import CheckpointRecord as CheckpointRecord
from harness.types.records import CommandRecord as CommandRecord
from harness.types.records import Course as Course
from harness.types.records import DecisionRecord as DecisionRecord
from harness.types.records import EvaluationRecord as EvaluationRecord
from harness.types.records import EventRecord as EventRecord
from harness.types.records import History as History
from harness.types.records import InForce as InForce
from harness.types.records import OfferedRun as OfferedRun
from harness.types.records import PairedLook as PairedLook
from harness.types.records import RunDetails as RunDetails
from harness.types.records import RunKind as RunKind
from harness.types.records import RunRecord as RunRecord
from harness.types.records import SampleRecord as SampleRecord
from harness.types.records import SeenGroup as SeenGroup
from harness.types.records import Snapshot as Snapshot
from harness.types.records import Status as Status
from harness.types.records import StepRecord as StepRecord
