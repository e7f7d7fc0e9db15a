module kraft/seen

go 1.26.0
