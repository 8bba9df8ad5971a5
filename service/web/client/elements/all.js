/** All elements: importing this module defines them. */

import './build.js'
import './chat.js'
import './event-log.js'
import './plan.js'
import './prompt-diff.js'
import './run.js'
import './session-list.js'
import './timeline.js'
import './usage.js'
