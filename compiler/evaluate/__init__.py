"""`speechc eval`: word and character errors of compiled files on recordings with texts, and how sure they are."""
